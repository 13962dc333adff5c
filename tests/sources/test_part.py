from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safs_ray.sources.part import Part, held


def part(count: int) -> Part:
    """Labels that are their own number, and images whose pixel is, read by index."""
    return Part(np.arange(count), lambda chosen: chosen[:, None, None, None].astype(np.uint8))


def test_a_sample_keeps_images_with_their_labels_in_ascending_order() -> None:
    sample = part(200).sample(40)
    assert len(sample) == 40
    assert sample.labels.tolist() == sample.images()[:, 0, 0, 0].tolist() == sorted(set(sample.labels.tolist()))


@settings(deadline=None, derandomize=True)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=8), limit=st.integers(0, 200))
def test_every_class_keeps_its_share(counts: list[int], limit: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    taken = Part(labels, lambda chosen: chosen).sample(limit)
    assert len(taken) == min(limit, len(labels))
    for kind, count in enumerate(counts):
        share = count * len(taken) / max(1, len(labels))
        assert abs(int((taken.labels == kind).sum()) - share) < 2


def test_a_sample_smaller_than_the_classes_is_not_of_the_first_ones() -> None:
    assert part(1000).sample(50).labels.mean() == pytest.approx(500, abs=150)


def test_a_sample_is_the_same_every_time_and_part_of_a_larger_one() -> None:
    small, again, large = part(50).sample(10), part(50).sample(10), part(50).sample(30)
    assert small.labels.tolist() == again.labels.tolist()
    assert set(small.labels) < set(large.labels)


@pytest.mark.parametrize("limit", [None, 50, 51, 10**9])
def test_a_limit_beyond_the_images_takes_all_as_they_are(limit: int | None) -> None:
    assert part(50).sample(limit).labels.tolist() == list(range(50))


def test_images_that_are_held_are_not_copied_without_need() -> None:
    images = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    whole = held(images, np.array([5, 6, 7]))
    assert whole.images() is images
    sample = whole.sample(2)
    assert np.array_equal(sample.images(), images[sample.labels - 5])
