from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from safs_ray.data import Array
from safs_ray.tensorfile import packed

COUNTED = np.arange(6, dtype=np.float32).reshape(2, 3)

ARRAYS: dict[str, tuple[Array, object]] = {
    "transposed": (COUNTED.T, [[0, 3], [1, 4], [2, 5]]),
    "every second column": (COUNTED[:, ::2], [[0, 2], [3, 5]]),
    "backwards": (COUNTED[::-1], [[3, 4, 5], [0, 1, 2]]),
    "the same row twice": (np.broadcast_to(COUNTED[1], (2, 3)), [[3, 4, 5], [3, 4, 5]]),
    "bools in columns": ((COUNTED > 3).T, [[False, False], [False, True], [False, True]]),
    "a scalar": (np.array(7, np.int64), 7),
    "empty": (np.zeros((0, 3), np.float32), []),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_packed_arrays_come_back_however_they_lie_in_memory(name: str) -> None:
    array, values = ARRAYS[name]
    found = safetensors.numpy.load(packed({"x": array, "plain": COUNTED}))
    assert found["x"].tolist() == values
    assert (found["x"].dtype, found["x"].shape) == (array.dtype, array.shape)
    assert found["plain"].tolist() == COUNTED.tolist()


def test_packed_bits_stay_what_they_are() -> None:
    odd = np.array([np.nan, -np.nan, -0.0, 0.0, 1e-45, np.inf], np.float32)
    assert safetensors.numpy.load(packed({"x": odd}))["x"].tobytes() == odd.tobytes()


def test_packed_numbers_that_a_file_does_not_give_back_are_refused() -> None:
    swapped = COUNTED.astype(">f4")  # whose bytes safetensors writes in the other order, under its own type's name
    with pytest.raises(ValueError, match="does not give back x as it was written"):
        packed({"x": swapped})
