from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from safs_ray.sources.depth import Scale, shrunk


def image(values: list[float], kind: Any) -> npt.NDArray[Any]:
    """An image of one row."""
    return np.array([[values]], kind)


@pytest.mark.parametrize(
    ("values", "kind", "scaled"),
    [
        ([0, 2048, 4095], np.uint16, [0, 128, 255]),
        ([0, 2048, 4096], np.uint16, [0, 64, 128]),
        ([0, 257, 65535], np.uint16, [0, 1, 255]),
        ([0, 1, 200], np.uint16, [0, 1, 200]),
        ([0, 256], np.int32, [0, 128]),
        ([0, 1_000_000], np.int32, [0, 243]),
        ([0, 2**31, 2**32 - 1], np.uint32, [0, 128, 255]),
        ([7, 7], np.uint16, [7, 7]),
        ([-100, 0, 100], np.int32, [0, 128, 255]),
        ([0, 0.5, 1], np.float32, [0, 128, 255]),
        ([0.25, 0.5], np.float32, [64, 128]),
        ([0, 128, 255], np.float32, [0, 128, 255]),
        ([-1, 0, 1], np.float32, [0, 128, 255]),
        ([10, 20, 110], np.float32, [0, 26, 255]),
        ([3.5, 3.5], np.float32, [0, 0]),
    ],
)
def test_a_scale_keeps_whole_bits_and_fractions_and_stretches_all_else(
    values: list[float], kind: Any, scaled: list[int]
) -> None:
    found = image(values, kind)
    assert Scale.of([found])(found).tolist() == [[scaled]]


def test_a_scale_is_that_of_all_images() -> None:
    dark, bright = image([0, 100], np.uint16), image([3000], np.int32)
    scale = Scale.of([dark, bright])
    assert (scale.black, scale.white) == (0, 4095)
    assert scale(dark).tolist() == [[[0, 6]]]


def test_what_lies_beyond_a_scale_is_cut_off_and_known() -> None:
    scale = Scale.of([image([-1.0, 3.0], np.float32)])
    beyond, within = image([-2, 1, 5], np.float32), image([-1, 0, 3], np.float32)
    assert scale(beyond).tolist() == [[[0, 128, 255]]]
    assert scale.cuts(beyond)
    assert not scale.cuts(within)
    assert not Scale.of([image([0, 0.2], np.float32)]).cuts(image([0.9], np.float32))


def test_a_scale_says_what_it_was_found_from() -> None:
    assert str(Scale.of([image([3, 3911], np.uint16)])) == "with pixels from 3 to 3,911; 0 to 4,095 become 0 to 255"
    assert str(Scale.of([image([-0.5, 2], np.float32)])) == "with pixels from -0.5 to 2; -0.5 to 2 become 0 to 255"


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_shrinking_is_pillows_within_the_range_of_the_image(kind: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 9))
    found = shrunk(pixels.astype(kind), (4, 4))
    assert found.dtype == kind
    for one, other in zip(found, pixels, strict=True):
        expected = Image.fromarray(other.astype(np.uint8)).resize((4, 4), Image.Resampling.BILINEAR)
        assert np.abs(one - np.asarray(expected, np.float64)).max() <= 1
    ones = np.ones((1, 50, 50), np.float32)
    assert (shrunk(ones, (7, 7)) == 1).all(), "or fractions would be no fractions any more"
