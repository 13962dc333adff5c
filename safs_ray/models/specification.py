"""All that is needed to build a network's module."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from safs_ray.config import ConfigurationError


@dataclass(frozen=True)
class Specification:
    """What a network is before it has weights.

    Attributes:
        model: name of the architecture, or ``package.module:function``.
        channels, size: the images it takes are (N, channels, size, size).
        classes: number of logits it returns, (N, classes).
        mean, deviation: by channel, of pixels in [0, 1]; what the images it was trained on were normalised by.
        exclude: patterns, as of :mod:`fnmatch`, of activations that are no sites and stay as they are.

    Examples:
        >>> specification = Specification("lenet5", channels=1, size=28, classes=10, mean=(0.5,), deviation=(0.5,))
        >>> specification.example().shape
        torch.Size([2, 1, 28, 28])
        >>> specification.normalised(torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)).tolist()
        [[[[-1.0, 1.0]]]]
    """

    model: str
    channels: int
    size: int
    classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    exclude: tuple[str, ...] = ()

    def example(self, count: int = 2) -> Tensor:
        """A batch of zeros (count, C, H, W) that the module accepts."""
        return torch.zeros(count, self.channels, self.size, self.size)

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) as float32 with the mean and deviation taken out."""
        mean = images.new_tensor(self.mean, dtype=torch.float32)[:, None, None]
        deviation = images.new_tensor(self.deviation, dtype=torch.float32)[:, None, None]
        return (images.float() / 255 - mean) / deviation

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) as (N, C * H * W), for code that reads them by their addresses.

        Raises:
            ValueError: they are not such images.
        """
        shape = (self.channels, self.size, self.size)
        if images.dtype != torch.uint8 or images.shape[1:] != shape:
            wanted = ", ".join(map(str, shape))
            raise ValueError(f"images must be uint8 (N, {wanted}), not {images.dtype} {tuple(images.shape)}")
        return images.flatten(1)

    def levels(self) -> Tensor:
        """What the 256 values of a pixel become, normalised, by channel: (C, 256)."""
        every = torch.arange(256, dtype=torch.uint8).expand(1, self.channels, 1, 256)
        return self.normalised(every)[0, :, 0]

    def require(self, fits: bool, sizes: str) -> None:
        """Refuse images that the architecture cannot take; ``sizes`` are those that it takes.

        Raises:
            ConfigurationError: they do not fit.
        """
        if not fits:
            raise ConfigurationError(
                f"data.size: {self.model} takes images of {sizes}, these have {self.size}x{self.size}; "
                "data.size=PIXELS resizes them"
            )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Specification:
        listed = {name: tuple(values[name]) for name in ("mean", "deviation", "exclude")}
        return cls(**{**values, **listed})
