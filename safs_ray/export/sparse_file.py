"""A network in one safetensors file that is about as small as its nonzeros.

A tensor T of which most is zero is stored as two: ``values:T``, what it keeps in the order of its flattened places,
and ``gaps:T``, how many places lie empty before each of them. A gap of its type's largest value, 255 or 65535, stands
for so many empty places and no value. All else, shapes included, is JSON in the header's metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from safs_ray import machine
from safs_ray.data import Array
from safs_ray.network import MASK, Network
from safs_ray.pruning.masks import unsigned_zeros
from safs_ray.storage import DamagedError
from safs_ray.tensorfile import packed

FILE = "network.safetensors"
"""The name of such a file unless the user gives it another."""
VALUES, GAPS = "values:", "gaps:"
DIGEST = "digest"
"""The fingerprint of all else that the file holds, in its description."""
VERSION = "version"
"""Of the description: 2 since every file has a fingerprint; the first have no version."""
METADATA = "safs_ray"
"""The only entry of the header's metadata: with more, safetensors would put them in any order."""
ENTRY = 80
"""About how many bytes one more tensor takes in the header."""

Places = npt.NDArray[np.int64]
Gaps = npt.NDArray[np.uint8 | np.uint16]


def write(network: Network, remarks: Mapping[str, str]) -> bytes:
    """The file's content, in which no zero has a sign.

    Args:
        remarks: more texts for the description, for people and other programs.

    Raises:
        ValueError: the content does not give its tensors back.
    """
    description, masked = network.to_arrays()[0], sorted(network.masks)
    shapes: dict[str, list[int]] = {}
    stored: dict[str, Array] = {}
    for name in sorted(network.state):  # the same bytes in whatever order they were loaded
        array: Array = unsigned_zeros(network.state[name]).numpy()
        kept = network.masks[name].numpy() if name in masked else array != 0
        values, gaps = array[kept], shortest_gaps(np.flatnonzero(kept))
        if name in masked or values.nbytes + gaps.nbytes + ENTRY < array.nbytes:
            shapes[name] = list(array.shape)
            stored |= {f"{VALUES}{name}": values, f"{GAPS}{name}": gaps}
        else:
            stored[name] = array
    described = {**remarks, **description, "shapes": shapes, "masked": masked, VERSION: 2}
    text = json.dumps({**described, DIGEST: _digest(described, stored)})
    return packed(stored, {METADATA: text})


def read(content: bytes) -> Network:
    """The network that :func:`write` made a file of.

    Raises:
        Exception: of any kind, when the file is damaged or was not written by it.
    """
    description, stored = _description(content), safetensors.numpy.load(content)
    digest = description.pop(DIGEST, None)
    if not digest and description.get(VERSION, 1) > 1:
        raise DamagedError("it has lost its fingerprint")
    arrays: dict[str, Array] = {name: array for name, array in stored.items() if not name.startswith((VALUES, GAPS))}
    for name, shape in description["shapes"].items():
        values, size = stored[f"{VALUES}{name}"], math.prod(shape)
        if size * values.itemsize > machine.free_memory():  # a small file may say that it is of any size
            raise MemoryError(f"{name} of shape {shape} takes {machine.readable(size * values.itemsize)}")
        kept = np.zeros(size, np.bool_)
        kept[places(stored[f"{GAPS}{name}"])] = True
        arrays[name] = np.zeros(shape, values.dtype)
        arrays[name][kept.reshape(shape)] = values
        if name in description["masked"]:
            arrays[f"{MASK}{name}"] = kept.reshape(shape)
    if digest and digest != _digest(description, stored):
        raise DamagedError("its content is not what was written: its fingerprint differs")
    return Network.from_arrays((description, arrays))


def shortest_gaps(ascending: Places) -> Gaps:
    """The gaps before places of a flattened tensor, in the type that takes fewer bytes."""
    small, large = _gaps(ascending, np.uint8), _gaps(ascending, np.uint16)
    return small if small.nbytes <= large.nbytes else large


def _gaps(ascending: Places, kind: type[np.uint8] | type[np.uint16]) -> Gaps:
    limit = np.iinfo(kind).max
    whole, rest = np.divmod(np.diff(ascending, prepend=-1) - 1, limit)
    gaps: Gaps = np.full(int((whole + 1).sum()), limit, kind)
    gaps[np.cumsum(whole + 1) - 1] = rest
    return gaps


def places(gaps: Gaps) -> Places:
    """The inverse of :func:`shortest_gaps`."""
    ends = gaps != np.iinfo(gaps.dtype).max
    passed: Places = np.cumsum(gaps + ends, dtype=np.int64)
    ascending: Places = passed[ends] - 1
    return ascending


def _digest(description: Mapping[str, Any], stored: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(stored):
        array = np.asarray(stored[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _description(content: bytes) -> dict[str, Any]:
    """The JSON that the header of the file holds."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    if METADATA not in metadata:
        raise ValueError("it does not describe a network; only exported files do")
    return dict(json.loads(metadata[METADATA]))
