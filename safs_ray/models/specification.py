"""All that is needed to build a network's module."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from safs_ray.config import ConfigurationError, refusal

Kind = Literal["uint8", "float32", "int64"]
"""The type of inputs: bytes, numbers, or the indices of an embedding."""


@dataclass(frozen=True)
class Specification:
    """What a network is before it has weights.

    Attributes:
        model: name of the architecture, or ``package.module:function``.
        shape: of one input: (C, H, W) of an image, (C, length) of a signal, (features,) of a row of a table.
        outputs: how many numbers it returns for an input, (N, outputs): a logit for each class or label, or values.
        mean, deviation: by channel, or feature: what the inputs it was trained on were normalised by; of bytes divided
            by 255. Empty for indices.
        exclude: patterns, as of :mod:`fnmatch`, of activations that are no sites and stay as they are.
        kind: of inputs.
        indices: of an embedding: one more than the highest; 0 for other inputs.
        target_mean, target_deviation: by output, of the values that it predicts: what it computes is
            (value - mean) / deviation. Empty for logits.

    Examples:
        >>> specification = Specification("lenet5", (1, 28, 28), 10, mean=(0.5,), deviation=(0.5,))
        >>> specification.example().shape
        torch.Size([2, 1, 28, 28])
        >>> specification.normalised(torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)).tolist()
        [[[[-1.0, 1.0]]]]
        >>> table = Specification("mlp", (2,), 1, mean=(1.0, 2.0), deviation=(1.0, 0.5), kind="float32")
        >>> table.normalised(torch.tensor([[1.0, 3.0]])).tolist()
        [[0.0, 2.0]]
    """

    model: str
    shape: tuple[int, ...]
    outputs: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    exclude: tuple[str, ...] = ()
    kind: Kind = "uint8"
    indices: int = 0
    target_mean: tuple[float, ...] = ()
    target_deviation: tuple[float, ...] = ()

    @property
    def is_of_images(self) -> bool:
        """Whether inputs are images: bytes (C, H, W)."""
        return self.kind == "uint8" and len(self.shape) == 3

    @property
    def channels(self) -> int:
        """Of an input: its first dimension."""
        return self.shape[0]

    @property
    def noun(self) -> str:
        """What an input is called."""
        return "image" if self.is_of_images else "input"

    @property
    def size(self) -> str:
        """The shape of an input, for a person."""
        return "x".join(map(str, self.shape))

    @property
    def signature(self) -> str:
        """Its part of a network's fingerprint: of square images that are classified, as it was when there were no other
        inputs."""
        own = asdict(self)
        plain = {"kind": "uint8", "indices": 0, "target_mean": (), "target_deviation": ()}
        if len(self.shape) != 3 or self.shape[1] != self.shape[2] or any(own[name] != plain[name] for name in plain):
            return repr(self)
        words = {"model": self.model, "channels": self.channels, "size": self.shape[1], "classes": self.outputs}
        words |= {name: own[name] for name in ("mean", "deviation", "exclude")}
        return f"Specification({', '.join(f'{name}={value!r}' for name, value in words.items())})"

    def example(self, count: int = 2) -> Tensor:
        """A batch of zeros (count, …) that the module accepts."""
        return torch.zeros(count, *self.shape, dtype=torch.int64 if self.kind == "int64" else torch.float32)

    def drawn(self, count: int, draws: torch.Generator) -> Tensor:
        """Random inputs (count, …) as a user gives them, of all contrasts."""
        if self.kind == "int64":
            return torch.randint(max(1, self.indices), (count, *self.shape), generator=draws)
        each = (count, *(1 for _ in self.shape))
        if self.kind == "uint8":
            values = torch.rand(count, *self.shape, generator=draws) * 256 * torch.rand(each, generator=draws)
            return values.to(torch.uint8)
        values = 2 * torch.randn(count, *self.shape, generator=draws) * torch.rand(each, generator=draws)
        return values * self._by_channel(values, self.deviation) + self._by_channel(values, self.mean)

    def normalised(self, inputs: Tensor) -> Tensor:
        """Inputs (N, …) as float32 with the mean and deviation taken out; indices as they are."""
        if self.kind == "int64":
            return inputs
        mean, deviation = (self._by_channel(inputs, values) for values in (self.mean, self.deviation))
        return ((inputs.float() / 255 if self.kind == "uint8" else inputs.float()) - mean) / deviation

    def _by_channel(self, like: Tensor, values: tuple[float, ...]) -> Tensor:
        """A value for each channel, to compute with inputs (N, C, …)."""
        return like.new_tensor(values, dtype=torch.float32).view(-1, *(1 for _ in self.shape[1:]))

    def rows(self, inputs: Tensor) -> Tensor:
        """Inputs (N, …) as (N, values), for code that reads them by their addresses: bytes, or normalised numbers.

        Raises:
            ValueError: they are not such inputs, or not on the CPU.
        """
        inputs = self.checked(inputs)
        if inputs.device.type != "cpu":
            raise ValueError(f"{self.noun}s must be on the CPU, not on {inputs.device}")
        return (inputs if self.kind == "uint8" else self.normalised(inputs)).flatten(1)

    def checked(self, inputs: object) -> Tensor:
        """Inputs (N, …) of the kind and shape that they must have; floats of any width become float32.

        Raises:
            ValueError: they are no such tensor.
        """
        if not isinstance(inputs, Tensor) or inputs.layout != torch.strided:
            raise self._unfit(f" as a dense tensor, not {type(inputs).__name__}")
        if self.kind == "float32" and inputs.is_floating_point():
            inputs = inputs.float()
        if inputs.dtype != getattr(torch, self.kind) or inputs.dim() == 0 or inputs.shape[1:] != self.shape:
            raise self._unfit(f", not {inputs.dtype} {tuple(inputs.shape)}")
        return inputs

    def _unfit(self, what: str) -> ValueError:
        return ValueError(f"{self.noun}s must be {self.kind} (N, {', '.join(map(str, self.shape))}){what}")

    def levels(self) -> Tensor:
        """What the 256 values of a byte become, normalised, by channel: (C, 256)."""
        every = torch.arange(256, dtype=torch.uint8).expand(1, self.channels, 256)
        mean, deviation = (
            every.new_tensor(values, dtype=torch.float32)[:, None] for values in (self.mean, self.deviation)
        )
        return ((every.float() / 255 - mean) / deviation)[0]

    def standardised(self, targets: Tensor) -> Tensor:
        """Targets (N, outputs) as the network computes them; classes and labels as they are."""
        if not self.target_mean:
            return targets
        mean, deviation = (targets.new_tensor(values) for values in (self.target_mean, self.target_deviation))
        return (targets - mean) / deviation

    def restored(self, outputs: Tensor) -> Tensor:
        """What the network computes (N, outputs) as a user takes it: the inverse of :meth:`standardised`."""
        if not self.target_mean:
            return outputs
        mean, deviation = (outputs.new_tensor(values) for values in (self.target_mean, self.target_deviation))
        return outputs * deviation + mean

    def values(self) -> int:
        """How many numbers an input has, for an architecture that takes numbers of any shape.

        Raises:
            ConfigurationError: inputs are indices.
        """
        if self.kind == "int64":
            takes = "takes numbers, and these inputs are indices, which an embedding takes"
            raise refusal("model.name", self.model, f"{takes}; allowed: your own package.module:function")
        return math.prod(self.shape)

    def sides(self) -> tuple[int, int]:
        """Height and width of the images that an architecture takes.

        Raises:
            ConfigurationError: inputs are no images.
        """
        if len(self.shape) != 3 or self.kind == "int64":
            takes = f"takes images (C, H, W), and these inputs are {self.kind} of shape {self.shape}"
            raise refusal("model.name", self.model, f"{takes}; allowed: mlp or your own package.module:function")
        return self.shape[1], self.shape[2]

    def require(self, fits: bool, sizes: str) -> None:
        """Refuse images that the architecture cannot take; ``sizes`` are those that it takes.

        Raises:
            ConfigurationError: they do not fit.
        """
        if not fits:
            raise ConfigurationError(
                f"data.size: {self.model} takes images of {sizes}, these have {'x'.join(map(str, self.shape[1:]))}; "
                "data.size=PIXELS resizes them"
            )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Specification:
        """The inverse of :meth:`as_json`, also of files of before, which have channels, size and classes."""
        own = dict(values)
        if "shape" not in own:
            channels, size = own.pop("channels"), own.pop("size")
            own |= {"shape": (channels, size, size), "outputs": own.pop("classes")}
        listed: dict[str, Any] = {name: tuple(value) for name, value in own.items() if isinstance(value, list | tuple)}
        return cls(**{**own, **listed})
