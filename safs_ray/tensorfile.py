"""Numpy arrays as the content of a safetensors file, which is read back before it counts as written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from safs_ray.data import Array


def packed(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a file of arrays, by name.

    Raises:
        ValueError: the content does not give the arrays back, bit for bit.
    """
    # safetensors 0.8.0 writes the memory that an array begins in, without its strides: of a transposed array, or of
    # every second column, other numbers.
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = safetensors.numpy.save(whole, None if metadata is None else dict(metadata))
    tensors = safetensors.numpy.load(content)
    if different := [name for name, array in whole.items() if not _same(array, tensors.get(name))]:
        raise ValueError(f"safetensors does not give back {different[0]} as it was written")
    return content


def _same(array: Array, other: Array | None) -> bool:
    """Whether two arrays have the same bits: other than ``==``, NaN is NaN, and -0.0 is not 0.0."""
    return (
        other is not None
        and (array.dtype, array.shape) == (other.dtype, other.shape)
        and array.tobytes() == other.tobytes()
    )
