"""What every way to execute networks is: a module that trains and evaluates a cohort of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, autocast, nn

from safs_ray.losses import Loss, Targets
from safs_ray.network import Network


class Cohort(nn.Module):
    """Networks of one mask on a device, trained side by side, each as it would be alone. Often it is one network.

    Attributes:
        planned: the masks by which it was last decided how to compute, where masks change; else none.
    """

    planned: Mapping[str, Tensor] = MappingProxyType({})

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Logits (networks, N, classes) of uint8 images (N, C, H, W)."""

    @property
    @abstractmethod
    def weights(self) -> Sequence[nn.Parameter]:
        """The parameters that are not an activation's."""

    @property
    @abstractmethod
    def scales(self) -> Sequence[nn.Parameter]:
        """The parameters of the activations."""

    @property
    def tensors(self) -> Mapping[Tensor, Tensor]:
        """For parameters that hold several tensors of a network: the number of the tensor that each value is of."""
        return {}

    @property
    def prunable(self) -> Mapping[str, Tensor]:
        """The weights that hold zeros, by name, for a rule to keep: none where only nonzeros are held."""
        return {}

    def follow(self, masks: Mapping[str, Tensor], reads_dropped: bool) -> None:
        """Before each step: the weights are zero where masks say so, from now on.

        Args:
            masks: as of a :class:`safs_ray.pruning.rules.MaskRule`, which are never changed in place.
            reads_dropped: whether the gradients of dropped weights are wanted in the step to come.
        """

    def plan(self, masks: Mapping[str, Tensor]) -> None:
        """Decide how to compute as for masks that were :attr:`planned` before an interruption."""

    @abstractmethod
    def freeze_scales(self) -> None:
        """Learn alpha and beta no more; where they are at 1 they need not be multiplied with either."""

    @abstractmethod
    def state(self, number: int) -> dict[str, Tensor]:
        """A network's state, in its own names and shapes, on the CPU; later training does not change it."""

    @abstractmethod
    def load(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Let a network go on from what :meth:`state` gave."""

    def learn(self, images: Tensor, targets: Targets, loss: Loss, precision: torch.dtype = torch.float32) -> Tensor:
        """The mean loss of each network, (networks,); its gradients replace those of the parameters.

        Args:
            precision: what layers compute in.
        """
        with autocast(images.device.type, precision, enabled=precision is torch.bfloat16):
            outputs = self(images)
            whole = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
            losses = torch.stack([loss(each, targets) for each in whole])
        self.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def joined(self, networks: Sequence[Network]) -> Cohort | None:  # noqa: ARG002
        """A new cohort of this one's networks and more; None where they cannot be trained side by side."""
        return None


class Single(nn.Module):
    """The network of a cohort of one: uint8 images (N, C, H, W) to logits (N, classes)."""

    def __init__(self, cohort: Cohort) -> None:
        super().__init__()
        self.cohort = cohort

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.cohort(images)[0]
        return logits
