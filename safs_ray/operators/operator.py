"""What an operator is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Operator:
    """A unary function of a tensor of any shape, applied element by element.

    Attributes:
        function: maps z, and a tensor for each internal parameter, to g(z) in the shape of z.
        formula: g(z) as text.
        source: who proposed it.
        parameters: names and initial values of the internal parameters.
        channels: how many channels have internal parameters of their own, tensors (channels,), where z is
            (N, channels, …); None where all elements share them, scalars.
    """

    name: str
    function: Callable[..., Tensor]
    formula: str
    source: str
    parameters: dict[str, float] = field(default_factory=dict)
    channels: int | None = None

    def start(self) -> dict[str, Tensor]:
        """The internal parameters as they begin, by name: scalars, or (channels,)."""
        shape = () if self.channels is None else (self.channels,)
        return {name: torch.full(shape, value) for name, value in self.parameters.items()}
