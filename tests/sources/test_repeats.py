from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safs_ray.config import DataSection
from safs_ray.sources import load
from safs_ray.sources.repeats import warn_of_repeats


def warned(pixels: list[list[int]], labels: list[int], caplog: pytest.LogCaptureFixture, *names: str) -> list[str]:
    """What is said of images of these pixels in a row."""
    images = torch.tensor(pixels, dtype=torch.uint8)[:, None, None]
    warn_of_repeats(images.numpy(), np.array(labels), names, "mine")
    return caplog.messages


def test_a_class_of_one_image_over_and_over_is_named(caplog: pytest.LogCaptureFixture) -> None:
    found = warned([[1, 2], [0, 0], [1, 3], [0, 0], [0, 1], [2, 2]], [2, 5, 2, 5, 5, 2], caplog)
    assert found == ["warning: data.source=mine: 2 of the 3 training images of class 5 are the same, pixel for pixel"]


def test_of_several_classes_the_first_is_named(caplog: pytest.LogCaptureFixture) -> None:
    found = warned([[0, 0]] * 6 + [[1, 0], [1, 1], [1, 2]], [1, 1, 1, 0, 0, 0, 2, 2, 2], caplog, "ape", "bee", "cow")
    assert found == [
        "warning: data.source=mine: 3 of the 3 training images of class ape are the same, pixel for pixel, and so in "
        "1 of the other classes"
    ]


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        ([[0, 0], [0, 0], [1, 1], [1, 2]], [0, 0, 0, 0]),
        ([[0, 0], [0, 0], [1, 1], [1, 2]], [0, 0, 1, 1]),
        ([[0, 9], [9, 0], [4, 5], [5, 4]], [0, 0, 0, 0]),
        ([[0, 0], [0, 0], [0, 0], [1, 1]], [0, 1, 2, 3]),
    ],
    ids=["half of them", "classes of two", "the same sum", "in different classes"],
)
def test_no_more_than_half_and_fewer_than_three_are_no_repeats(
    pixels: list[list[int]], labels: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    assert warned(pixels, labels, caplog) == []


def test_repeats_are_told_of_any_source(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for part in ("train", "test"):
        for name, shade in (("cat", 0), ("dog", 1)):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(3):
                image = Image.new("L", (4, 4), shade * number)
                image.save(tmp_path / part / name / f"{number}.png")
    load(DataSection(source=f"imagefolder:{tmp_path}"))
    assert caplog.messages == [
        f"warning: data.source=imagefolder:{tmp_path}: 3 of the 3 training images of class cat are the same, pixel for "
        "pixel"
    ]


def test_the_images_of_digits_differ(caplog: pytest.LogCaptureFixture) -> None:
    load(DataSection(size=8))
    assert caplog.messages == []


def test_60000_images_are_looked_through_in_no_time() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (60_000, 1, 28, 28), dtype=np.uint8))
    start = time.process_time()
    warn_of_repeats(images.numpy(), np.arange(60_000) % 10, (), "mine")
    assert time.process_time() - start < 1
