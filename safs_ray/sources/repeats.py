"""Images that are the same over and over, as of a source that was not read as it was meant."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from safs_ray.data import Array

log = logging.getLogger("safs_ray")

LEAST = 3
"""Images that a class must have."""


def warn_of_repeats(images: Array, labels: Array, names: Sequence[str], source: str) -> None:
    """Say in one line of which classes more than half of the training images have the same pixels."""
    repeated = _repeated(images, labels)
    if not repeated:
        return
    kind, (same, of) = next(iter(repeated.items()))
    more = f", and so in {len(repeated) - 1:,} of the other classes" if len(repeated) > 1 else ""
    log.warning(
        "warning: data.source=%s: %s of the %s training images of class %s are the same, pixel for pixel%s",
        source, f"{same:,}", f"{of:,}", names[kind] if names else kind, more,
    )  # fmt: skip


def _repeated(images: Array, labels: Array) -> dict[int, tuple[int, int]]:
    """By class: how many of its images are the same, where they are more than half, and how many it has."""
    sums = images.reshape(len(images), -1).sum(1)
    by_class = np.argsort(labels, kind="stable")
    repeats = {}
    for own in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1):
        same = _most_alike(images, sums, own)
        if len(own) >= LEAST and 2 * same > len(own):
            repeats[int(labels[own[0]])] = same, len(own)
    return repeats


def _most_alike(images: Array, sums: Array, own: Array) -> int:
    """How many of the images of these rows have the same pixels; 0 where it is no more than half.

    Equal images have equal sums, so that few classes need a look at their pixels.
    """
    values, counts = np.unique(sums[own], return_counts=True)
    if 2 * counts.max() <= len(own):
        return 0
    alike = own[sums[own] == values[counts.argmax()]]
    return Counter(images[row].tobytes() for row in alike).most_common(1)[0][1]
