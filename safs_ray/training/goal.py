"""What a training makes small: the loss of the task, with the weights of its classes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from safs_ray.config import DataSection, counted, refusal
from safs_ray.data import Examples
from safs_ray.losses import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError, OwnLoss
from safs_ray.references import is_reference, resolve


def loss_of(section: DataSection, train: Examples, loss: Loss) -> Loss:
    """The loss of a run.

    Args:
        train: examples that balanced classes are weighed by.
        loss: of classification, before its classes are weighed.

    Raises:
        ConfigurationError: there is no function of its name, or other weights than classes.
    """
    if is_reference(section.chosen_loss):
        return OwnLoss(resolve(section.chosen_loss, "data.loss"))
    if section.task == "regression":
        return MeanSquaredError()
    if section.task == "multilabel":
        return BinaryCrossEntropy(_weights(section, train))
    return replace(loss, weights=_weights(section, train)) if isinstance(loss, CrossEntropy) else loss


def _weights(section: DataSection, train: Examples) -> tuple[float, ...]:
    """By class or label; none where all weigh the same."""
    if section.class_weights == "none":
        return ()
    if section.class_weights == "balanced":
        return tuple(_balanced(train).tolist())
    return tuple(section.class_weights)


def _balanced(train: Examples) -> Tensor:
    """Weights by which all classes weigh the same, 1 on average; of a label, by which both of its values do."""
    if not train.has_classes:
        applies = train.labels.double().sum(0)
        return (len(train) - applies) / applies.clamp(min=1)
    counts = torch.bincount(train.labels).double()
    return len(train) / (counts.count_nonzero() * counts.clamp(min=1))


def check_weights(section: DataSection, outputs: int) -> None:
    """Refuse other weights than there are classes or labels.

    Raises:
        ConfigurationError: naming both numbers.
    """
    weights = section.class_weights
    if isinstance(weights, tuple) and len(weights) != outputs:
        classes = counted(outputs, "label" if section.task == "multilabel" else "class", "classes")
        raise refusal("data.class_weights", list(weights), f"{len(weights)} weights for {classes}")
