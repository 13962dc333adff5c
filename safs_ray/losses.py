"""Losses: what the outputs of a network are told by their targets.

A loss is an immutable value. Networks that torch executes call it; the compiled pass of sparse execution computes the
same by a kernel in :mod:`safs_ray.sparse.losses`. So a further loss is a class here, and there a kernel of its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


class Targets(NamedTuple):
    """What the outputs of N examples should be.

    Attributes:
        labels: numbers of classes, int64 (N,); or values, or 1 for each label that applies and else 0, (N, outputs).
        taught: logits of a teacher, (N, outputs); None where there is none.
    """

    labels: Tensor
    taught: Tensor | None = None


class Loss(ABC):
    """How far outputs are from their targets."""

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Targets) -> Tensor:
        """The mean loss of outputs (N, outputs), a scalar from which torch goes back."""

    def summed(self, outputs: Tensor, targets: Targets) -> Tensor:
        """The sum of the examples' losses."""
        return self(outputs, targets) * len(outputs)


class CompiledLoss(Loss):
    """A loss that the compiled pass computes, too.

    Attributes:
        name: of its kernel.
        settings: the numbers that its kernel takes.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def settings(self) -> tuple[float, ...]: ...

    @abstractmethod
    def prepared(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """What its kernel takes of targets: classes, int64 (N,), and values, (N, any number); either may be empty."""


@dataclass(frozen=True)
class CrossEntropy(CompiledLoss):
    """Softmax cross-entropy against a class, a class and all others a little, or also against a teacher.

    With z the outputs, y the class, K their number, s the smoothing, w the share and T the temperature it is
    (1 - w) CE(z, (1 - s) y + s / K) + w T^2 CE(z / T, softmax(teacher / T)).

    Label smoothing is that of Szegedy et al. 2016 (Rethinking the Inception Architecture, section 7), distillation that
    of Hinton et al. 2015 (Distilling the Knowledge in a Neural Network, section 2), where T^2 keeps the gradients of
    the soft targets as large as those of the hard ones.

    Args:
        smoothing: in [0, 1).
        share: of the teacher, in [0, 1].
        temperature: above 0.
        weights: of each class, what its examples' part of the loss is multiplied with, beside a teacher's; none: 1.

    Examples:
        >>> outputs, targets = torch.tensor([[2.0, 0.0]]), Targets(torch.tensor([0]), torch.tensor([[0.0, 0.0]]))
        >>> [round(loss(outputs, targets).item(), 3) for loss in (CrossEntropy(), CrossEntropy(smoothing=0.2))]
        [0.127, 0.327]
        >>> round(CrossEntropy(share=0.5, temperature=2.0)(outputs, targets).item(), 3)
        1.69
    """

    smoothing: float = 0.0
    share: float = 0.0
    temperature: float = 1.0
    weights: tuple[float, ...] = ()

    name = "cross entropy"

    @property
    def settings(self) -> tuple[float, ...]:
        return self.smoothing, self.share, self.temperature, *self.weights

    def __call__(self, outputs: Tensor, targets: Targets) -> Tensor:
        if self.weights:
            each = cross_entropy(outputs, targets.labels, label_smoothing=self.smoothing, reduction="none")
            hard = (outputs.new_tensor(self.weights)[targets.labels] * each).mean()
        else:
            hard = cross_entropy(outputs, targets.labels, label_smoothing=self.smoothing)
        if not self.share:
            return hard
        soft = cross_entropy(outputs / self.temperature, self._soft(targets))
        return (1 - self.share) * hard + self.share * self.temperature**2 * soft

    def summed(self, outputs: Tensor, targets: Targets) -> Tensor:
        if self == CROSS_ENTROPY:
            return cross_entropy(outputs, targets.labels, reduction="sum")
        return super().summed(outputs, targets)

    def prepared(self, targets: Targets) -> tuple[Tensor, Tensor]:
        return targets.labels, self._soft(targets) if self.share else torch.empty(0, 0)

    def _soft(self, targets: Targets) -> Tensor:
        """The teacher's probabilities."""
        if targets.taught is None:
            raise ValueError(f"share={self.share} needs a teacher")
        return torch.softmax(targets.taught / self.temperature, 1)


CROSS_ENTROPY = CrossEntropy()
"""Against the classes alone."""


@dataclass(frozen=True)
class MeanSquaredError(CompiledLoss):
    """The mean, over examples and outputs, of the squared difference from the values.

    Examples:
        >>> MeanSquaredError()(torch.tensor([[1.0, 2.0]]), Targets(torch.tensor([[1.0, 4.0]]))).item()
        2.0
    """

    name = "mean squared error"

    @property
    def settings(self) -> tuple[float, ...]:
        return ()

    def __call__(self, outputs: Tensor, targets: Targets) -> Tensor:
        return ((outputs - targets.labels) ** 2).mean()

    def prepared(self, targets: Targets) -> tuple[Tensor, Tensor]:
        return torch.empty(0, dtype=torch.int64), targets.labels


@dataclass(frozen=True)
class BinaryCrossEntropy(CompiledLoss):
    """The mean, over examples and labels, of the cross-entropy between a sigmoid and whether the label applies.

    Args:
        weights: of each label, what the loss is multiplied with where it applies; none: 1.

    Examples:
        >>> outputs, targets = torch.tensor([[0.0, 0.0]]), Targets(torch.tensor([[1.0, 0.0]]))
        >>> [round(loss(outputs, targets).item(), 3) for loss in (BinaryCrossEntropy(), BinaryCrossEntropy((3.0, 1.0)))]
        [0.693, 1.386]
    """

    weights: tuple[float, ...] = ()

    name = "binary cross entropy"

    @property
    def settings(self) -> tuple[float, ...]:
        return self.weights

    def __call__(self, outputs: Tensor, targets: Targets) -> Tensor:
        weights = outputs.new_tensor(self.weights) if self.weights else None
        return binary_cross_entropy_with_logits(outputs, targets.labels.to(outputs.dtype), pos_weight=weights)

    def prepared(self, targets: Targets) -> tuple[Tensor, Tensor]:
        return torch.empty(0, dtype=torch.int64), targets.labels


@dataclass(frozen=True)
class OwnLoss(Loss):
    """A user's function of outputs (N, outputs) and labels, of which torch gives the gradients; no kernel does it."""

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, outputs: Tensor, targets: Targets) -> Tensor:
        return self.function(outputs, targets.labels)
