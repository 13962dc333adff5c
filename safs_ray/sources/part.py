"""The training or the test images of a source, before they are read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from safs_ray.config import refusal
from safs_ray.data import Array
from safs_ray.randomness import generator

log = logging.getLogger("safs_ray")

TEST = ("test", "val", "valid", "validation")
"""What the test images of a folder may be called; the first that is there is taken."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Labels, and a way to read images.

    Attributes:
        labels: (N,), integers of classes; or (N, outputs), numbers.
        read: gives the inputs (n, …), such as images (n, C, H, W), uint8, of n ascending indices.
        names: of the classes, by their labels; empty where the source has none.
    """

    labels: Array
    read: Callable[[Indices], Array]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, limit: int | None) -> Part:
        """At most ``limit`` of the images: a fixed draw, the same in every run and part of every larger one.

        Each class keeps nearly its share.
        """
        if limit is None or limit >= len(self):
            return self
        drawn = np.sort(_in_order_of_draw(self.labels)[:limit])
        return replace(self, labels=self.labels[drawn], read=lambda chosen: self.read(drawn[chosen]))

    def images(self) -> Array:
        """All of them, (N, …)."""
        return self.read(np.arange(len(self)))


def _in_order_of_draw(labels: Array) -> Indices:
    """Indices of all labels, such that each class is spread evenly over them."""
    if labels.ndim > 1:  # there are no classes
        labels = np.zeros(len(labels), np.int64)
    draws = generator(0, "limit")
    shuffled = torch.randperm(len(labels), generator=draws).numpy()
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # of each image in its class
    place = (rank + torch.rand(len(labels), generator=draws).numpy()) / np.repeat(counts, counts)
    return by_class[np.argsort(place)]


def held(inputs: Array, labels: Array, names: tuple[str, ...] = ()) -> Part:
    """Inputs (N, …) that are in memory already."""
    return Part(labels, lambda chosen: inputs if len(chosen) == len(inputs) else inputs[chosen], names)


def place_of_test(folder: Path, ending: str, source: str) -> Path:
    """The file, or the folder where the ending is empty, of the test images; it is said where it is not called test.

    Raises:
        ConfigurationError: there is none.
    """
    places = [folder / f"{name}{ending}" for name in TEST]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        others = f"{', '.join(each.name for each in places[1:-1])} or {places[-1].name}"
        kind = "file" if ending else "folder"
        raise refusal("data.source", source, f"there is no {kind} {places[0]}, nor {others} in its place")
    if place != places[0]:
        log.warning("data.source=%s: tests on %s, for there is no %s", source, place.name, places[0].name)
    return place
