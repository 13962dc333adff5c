"""The training or the test images of a source, before they are read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from safs_ray.config import counted
from safs_ray.data import Array
from safs_ray.randomness import generator

log = logging.getLogger("safs_ray")

SET_ASIDE = 5
"""One in so many of the training images is tested on where a source has no test images."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Labels, and a way to read images.

    Attributes:
        labels: (N,), integers.
        read: gives the images (n, C, H, W), uint8, of n ascending indices.
        names: of the classes, by their labels; empty where the source has none.
        files: paths of all files that images are read from; empty where the source has none.
    """

    labels: Array
    read: Callable[[Indices], Array]
    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, limit: int | None) -> Part:
        """At most ``limit`` of the images: a fixed draw, the same in every run and part of every larger one.

        Each class keeps nearly its share.
        """
        if limit is None or limit >= len(self):
            return self
        return self.chosen(np.sort(_in_order_of_draw(self.labels)[:limit]))

    def chosen(self, rows: Indices) -> Part:
        """The images of some rows, which ascend."""
        return replace(self, labels=self.labels[rows], read=lambda chosen: self.read(rows[chosen]))

    def images(self) -> Array:
        """All of them, (N, C, H, W), uint8."""
        return self.read(np.arange(len(self)))


def _in_order_of_draw(labels: Array) -> Indices:
    """Indices of all labels, such that each class is spread evenly over them."""
    draws = generator(0, "limit")
    shuffled = torch.randperm(len(labels), generator=draws).numpy()
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # of each image in its class
    place = (rank + torch.rand(len(labels), generator=draws).numpy()) / np.repeat(counts, counts)
    return by_class[np.argsort(place)]


def held(images: Array, labels: Array) -> Part:
    """Images (N, C, H, W), uint8, that are in memory already."""
    return Part(labels, lambda chosen: images if len(chosen) == len(images) else images[chosen])


def set_aside(train: Part, source: str) -> tuple[Part, Part]:
    """A source without test images, of which one in five is set aside to test on: the same in every run.

    Each class keeps nearly its share, and one image at least to train on.
    """
    order = _in_order_of_draw(train.labels)
    spare = np.delete(order, np.unique(train.labels[order], return_index=True)[1])
    test = np.sort(spare[: max(1, len(train) // SET_ASIDE)])
    share = f"one in {SET_ASIDE} of the training images is set aside to test on, {counted(len(test), 'image')}"
    log.warning("data.source=%s: there are no test images; %s", source, share)
    return train.chosen(np.delete(np.arange(len(train)), test)), train.chosen(test)
