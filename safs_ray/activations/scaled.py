"""What is put at a site."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from safs_ray.operators import Operator


class ScaledActivation(nn.Module):
    """f(x) = alpha * g(beta * x), element by element, for x of any shape (SAFS, section 3).

    Parameters: the scales ``alpha`` and ``beta``, scalars that start at 1, and g's internal parameters.
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.ones(()))
        self.internal = nn.ParameterDict(  # from pairs: it would sort a dict, and the function takes them in order
            (name, nn.Parameter(value)) for name, value in operator.start().items()
        )

        self._unscaled = False

    def freeze_scales(self) -> None:
        """Learn the scales no more. At 1, where stage 1 keeps them, they are not multiplied with either."""
        self.alpha.requires_grad_(False)
        self.beta.requires_grad_(False)
        self._unscaled = self.alpha.item() == self.beta.item() == 1

    def forward(self, x: Tensor) -> Tensor:
        if self._unscaled:
            return self.operator.function(x, *self.internal.values())
        return self.alpha * self.operator.function(self.beta * x, *self.internal.values())

    def extra_repr(self) -> str:
        return self.operator.name


class ChannelGroups(nn.Module):
    """Splits dimension 1, the channels, into contiguous blocks and applies one of its children to each.

    Blocks differ by at most one channel, the larger ones first.
    """

    def forward(self, x: Tensor) -> Tensor:
        blocks = x.tensor_split(len(self._modules), dim=1)
        return torch.cat([activation(block) for activation, block in zip(self.children(), blocks, strict=True)], dim=1)


class _InPlace(nn.Module):
    """Works in place: what reads the input later means the output."""

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = super().forward(x.clone())
        return x.copy_(output)


class ActivationInPlace(_InPlace, ScaledActivation):
    """A scaled activation that works in place."""


class ChannelGroupsInPlace(_InPlace, ChannelGroups):
    """Channel groups that work in place."""
