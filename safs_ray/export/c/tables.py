"""The parts that a source file in C is put together from: constant tables, structures, loops and calls."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from safs_ray.engine.layout import Cells, Layout
from safs_ray.engine.passes import Collect, Places, Weigh
from safs_ray.sparse.windows import Window

NARROW, WIDE = 16, 32
"""Bits of a place."""

KINDS = {"float32": "float"} | {f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32)}
"""Types of C by those of numpy."""


class Tables:
    """What a file says, in the order in which it is added.

    Attributes:
        layout: where values lie.
        texts: tables and structures.
        kernels: loops, each once.
        calls: what a run does.
        constants: bytes of all tables and structures, on a processor of 32 bits.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.texts: list[str] = []
        self.kernels: dict[str, None] = {}
        self.calls: list[str] = []
        self.constants = 0

    def table(self, name: str, values: npt.NDArray[Any], kind: str = "") -> str:
        """Write a table, and give its name."""
        self.texts.append(array(kind or KINDS[values.dtype.name], name, values.ravel().tolist()))
        self.constants += values.nbytes
        return name

    def structure(self, kind: str, name: str, fields: str) -> str:
        """Write a structure, and give its name."""
        self.texts.append(f"static const struct {kind} {name} = {fields};\n")
        self.constants += 4 * sum(bool(field.strip()) for field in re.split("[{},]", fields))  # numbers and addresses
        return name

    def use(self, *texts: str) -> None:
        """Write loops, unless they stand there."""
        self.kernels |= dict.fromkeys(texts)

    def places(self, terms: Places) -> tuple[npt.NDArray[Any], int, int]:
        """Where terms lie behind the nearest, that, and the bits of a place."""
        places = self.layout.at(terms)
        nearest = int(places.min()) if len(places) else 0
        behind = places - nearest
        bits = NARROW if behind.max(initial=0) < 1 << NARROW else WIDE
        return behind.astype(np.uint16 if bits == NARROW else np.uint32), nearest, bits


def structure_of_planes(cells: Cells, length: int, first: int, count: int | None, *more: int) -> str:
    """The fields of some planes of a value.

    Args:
        length: from a plane's first pixel on.
        first, count: which channels; None for all.
        more: further fields.
    """
    channels = cells.channels if count is None else count
    numbers = (
        cells.base + first * cells.stride, cells.stride, cells.origin, channels, cells.height, cells.width,
        cells.pitch, length, *more,
    )  # fmt: skip
    return f"{{{', '.join(map(str, numbers))}}}"


def listed(one: Collect, source: Cells) -> npt.NDArray[np.int32]:
    """Where the numbers that each pixel is made of lie in a plane; -1 for none."""
    row, column = np.divmod(one.table, one.width)
    places: npt.NDArray[np.int32] = np.where(one.table >= 0, row * source.pitch + column, -1).astype(np.int32)
    return places


def pairs(window: Window) -> str:
    """The fields of a window."""
    return ", ".join(f"{{{pair[0]}, {pair[1]}}}" for pair in window)


def type_of_counts(sums: Sequence[Weigh]) -> np.dtype[Any]:
    """The smallest type that holds how many terms a channel has."""
    return np.min_scalar_type(int(max((np.diff(each.starts).max(initial=0) for each in sums), default=0)))


def array(kind: str, name: str, values: Iterable[float]) -> str:
    """A constant array, of a zero where there is nothing."""
    number = _float if kind == "float" else str
    listed = [number(each) for each in values] or ["0"]
    lines = [", ".join(listed[first : first + 12]) for first in range(0, len(listed), 12)]
    return f"static const {kind} {name}[{len(listed)}] = {{\n    {(',' + chr(10) + '    ').join(lines)}\n}};\n"


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"a weight or a bias is {value}")
    text = f"{value + 0.0:.9g}"  # no zero has a sign
    return f"{text}f" if any(sign in text for sign in ".e") else f"{text}.0f"
