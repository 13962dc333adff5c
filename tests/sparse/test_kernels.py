from __future__ import annotations

import numpy as np

from safs_ray.sparse import kernels
from safs_ray.sparse.lanes import LANES


def lanes(*rows: float) -> np.ndarray:
    """One block whose rows are constant."""
    return np.repeat(np.array(rows, np.float32)[None, :, None], LANES, axis=2)


def indices(*values: object) -> np.ndarray:
    return np.array(values, np.int32)


def test_combine_by_hand() -> None:
    source, out = lanes(1, 10, 100), lanes(0, 0)
    values = np.array([2, 3, 0.5], np.float32)
    # Row 1 first, with a bias; both share the list that reads the base's row and the next.
    rows = indices([1, 0, 1, 2], [0, 0, 0, -1])
    kernels.combine(0, 2, out, source, values, rows, indices(0, 2), indices([0, 0], [1, 1]))
    assert out[0, :, 0].tolist() == [2 * 1 + 3 * 10, 0.5 + 2 * 10 + 3 * 100]
    assert (out == out[:, :, :1]).all()


def test_correlate_by_hand() -> None:
    gradient, source = lanes(1, 2), lanes(3, 5)
    out = np.zeros(2, np.float32)
    weights = indices([0, 0, 0, 0], [1, 1, 0, 1])  # weight 0 has both pairs in two bands, weight 1 one in its second
    kernels.correlate(
        0, 2, out, gradient, source, weights, 2, 1, indices(0, 1, 2, 2, 3), indices([0, 0], [1, 1], [0, 1])
    )
    assert out.tolist() == [LANES * (1 * 3 + 2 * 5), LANES * (2 * 5)]


def test_pooling_takes_the_first_of_equals_and_nan_before_all() -> None:
    source = lanes(1, 1, 0, np.nan)
    windows = indices([0, 1, 2], [2, 3, 2])
    out = np.empty((1, 2, LANES), np.float32)
    kernels.pool(0, 2, out, source, windows)
    assert out[0, 0, 0] == 1
    assert np.isnan(out[0, 1]).all()
    back = np.zeros_like(source)
    kernels.unpool(back, lanes(7, 0), out, source, windows)
    assert back[0, :, 0].tolist() == [7, 0, 0, 0]


def test_unpool_apart_writes_every_row_of_the_source() -> None:
    source, windows = lanes(2, 2, 1, 5), indices([0, 1], [2, 3])
    out, back = np.empty((1, 2, LANES), np.float32), np.full_like(source, np.nan)
    kernels.pool(0, 2, out, source, windows)
    kernels.unpool_apart(0, 2, back, lanes(7, 3), out, source, windows)
    assert back[0, :, 0].tolist() == [7, 0, 0, 3]
    assert (back == back[:, :, :1]).all()


def test_gather_looks_values_up_and_fills_up_with_zeros() -> None:
    images = np.array([[0, 255], [3, 4]], np.uint8)
    levels = np.arange(512, dtype=np.float32).reshape(2, 256)
    out = np.empty((1, 2, LANES), np.float32)
    kernels.gather(out, images, levels, indices(0, 1), indices(1, 0))
    assert out[0, :, :3].tolist() == [[255, 4, 0], [256, 259, 0]]


def test_moments_of_numbers_far_from_zero() -> None:
    draws = np.random.default_rng(0)
    source = (1e4 + draws.standard_normal((3, 4, LANES))).astype(np.float32)
    known = np.ones((3, LANES), np.float32)
    known[2, 5:] = 0
    mean, deviation = np.zeros((2, 2))
    kernels.moments(0, 2, mean, deviation, 0.0, source[:1], known[:1], 2)
    kernels.moments(0, 2, mean, deviation, 2.0 * LANES, source[1:], known[1:], 2)
    values = np.moveaxis(source, 1, 0).reshape(2, 2, 3 * LANES)[:, :, : 2 * LANES + 5].reshape(2, -1).astype(float)
    np.testing.assert_allclose(mean, values.mean(1), rtol=1e-7)
    np.testing.assert_allclose(deviation / values.shape[1], values.var(1), rtol=1e-3)
