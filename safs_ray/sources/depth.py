"""From images of more than 8 bits to 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from safs_ray.data import Array

KINDS = {"u": "integers", "i": "integers", "f": "floating-point numbers"}
"""Which images have a scale in common, by the kind of their numpy type."""


@dataclass(frozen=True)
class Scale:
    """What becomes of the pixels of a set's images: ``black`` becomes 0, ``white`` 255, the others lie evenly between.

    Attributes:
        least, most: the pixels that it was found from.
    """

    black: float
    white: float
    least: float
    most: float

    @classmethod
    def of(cls, images: Sequence[Array]) -> Scale:
        """The scale of images of one kind.

        Integers from 0 keep black: white is the smallest 2^b - 1 that none exceeds, 255 at least, so that 12 bits in a
        file of 16 are 12 bits. Floats in [0, 1] keep both ends. All others go from the least to the greatest pixel.
        """
        least, most = min(image.min() for image in images).item(), max(image.max() for image in images).item()
        if isinstance(most, int) and least >= 0:
            return cls(0, max(255, 2 ** most.bit_length() - 1), least, most)
        if isinstance(most, float) and least >= 0 and most <= 1:
            return cls(0, 1, least, most)
        return cls(least, most if most > least else least + 1, least, most)

    def __call__(self, image: Array) -> npt.NDArray[np.uint8]:
        """The image of 8 bits, rounded; what lies beyond black or white is cut off."""
        values = (image.astype(np.float64) - self.black) * 255 / (self.white - self.black)
        return np.rint(values).clip(0, 255).astype(np.uint8)

    def cuts(self, image: Array) -> bool:
        """Whether pixels lie beyond black or white."""
        return bool(image.min() < self.black or image.max() > self.white)

    def __str__(self) -> str:
        ends = ((self.least, self.most), (self.black, self.white))
        found, kept = (f"{low:,.6g} to {high:,.6g}" for low, high in ends)
        return f"with pixels from {found}; {kept} become 0 to 255"


def shrunk(image: Array, sides: tuple[int, int]) -> Array:
    """An image (C, H, W) of any number type with this height and width, of the same type.

    It is resized in floating point by the filter that images of 8 bits are resized by.
    """
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in image]
    resized = np.stack([np.asarray(each.resize(sides[::-1], Image.Resampling.BILINEAR)) for each in channels])
    if image.dtype.kind != "f":
        resized = np.rint(resized)
    # Sums of weights that are not quite 1 must not lead beyond the pixels that there are.
    return resized.clip(image.min(), image.max()).astype(image.dtype)
