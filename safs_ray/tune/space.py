"""What HyperOpt may propose: a conditional space, each optimizer with hyperparameters of its own.

Labels of HyperOpt's nodes begin with ``p_`` and so differ from every key of the proposals, and a starting
point names every label, those of the branches not taken too: Tune's wrapper needs both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import log
from typing import Any, TypeVar

from hyperopt import hp

from safs_ray.config import Hyperparameters, OptimizerName, Ranges, SgdRanges, SpaceSection
from safs_ray.search.evaluation import canonical

Name = TypeVar("Name", bound=str)

PROPOSAL = "hyperparameters"
"""Key of HyperOpt's proposal in a trial's config."""

CHAIN = "chain"
"""Key of the number of a chain of stage 1, which has the default hyperparameters, in a trial's config."""


def build(space: SpaceSection) -> dict[str, Any]:
    """The space in HyperOpt's terms: a choice of optimizers; momentum and schedule are sgd's (SAFS, stage 2)."""
    return {PROPOSAL: hp.choice("p_optimizer", [_branch(name, space.of(name)) for name in space.optimizers])}


def _branch(optimizer: OptimizerName, ranges: Ranges) -> dict[str, Any]:
    branch = {
        "optimizer": optimizer,
        "learning_rate": _log_uniform(f"p_{optimizer}_learning_rate", ranges.learning_rate),
        "weight_decay": _log_uniform(f"p_{optimizer}_weight_decay", ranges.weight_decay),
    }
    if isinstance(ranges, SgdRanges):
        branch["momentum"] = _uniform("p_sgd_momentum", ranges.momentum)
        branch["schedule"] = hp.choice("p_sgd_schedule", list(ranges.schedules))
    return branch


def _uniform(label: str, bounds: tuple[float, float]) -> Any:
    """A range, or the one value in it: TPE divides by a range's width."""
    return bounds[0] if bounds[0] == bounds[1] else hp.uniform(label, *bounds)


def _log_uniform(label: str, bounds: tuple[float, float]) -> Any:
    return bounds[0] if bounds[0] == bounds[1] else hp.loguniform(label, log(bounds[0]), log(bounds[1]))


def nearest(hyperparameters: Hyperparameters, space: SpaceSection) -> Hyperparameters:
    """The hyperparameters of the space that are nearest to these."""
    return _inside(hyperparameters, _one_of(hyperparameters.optimizer, space.optimizers), space)


def point(hyperparameters: Hyperparameters, space: SpaceSection) -> dict[str, Any]:
    """Hyperparameters of the space as HyperOpt's labels and values; it ignores labels of values that are fixed."""
    labels: dict[str, Any] = {"p_optimizer": space.optimizers.index(hyperparameters.optimizer)}
    for optimizer in space.optimizers:
        inside = _inside(hyperparameters, optimizer, space)
        labels[f"p_{optimizer}_learning_rate"] = inside.learning_rate
        labels[f"p_{optimizer}_weight_decay"] = inside.weight_decay
        if optimizer == "sgd":
            labels["p_sgd_momentum"] = inside.momentum
            labels["p_sgd_schedule"] = space.sgd.schedules.index(inside.schedule)
    return labels


def _inside(hyperparameters: Hyperparameters, optimizer: OptimizerName, space: SpaceSection) -> Hyperparameters:
    """The hyperparameters of one optimizer's branch that are nearest to these."""
    ranges = space.of(optimizer)
    inside = {
        "optimizer": optimizer,
        "learning_rate": _within(hyperparameters.learning_rate, ranges.learning_rate),
        "weight_decay": _within(hyperparameters.weight_decay, ranges.weight_decay),
        "momentum": 0.0,
        "nesterov": False,
        "schedule": "constant",
    }
    if isinstance(ranges, SgdRanges):
        inside["momentum"] = _within(hyperparameters.momentum, ranges.momentum)
        inside["schedule"] = _one_of(hyperparameters.schedule, ranges.schedules)
    return hyperparameters.model_copy(update=inside)


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def _one_of(value: Name, choices: tuple[Name, ...]) -> Name:
    return value if value in choices else choices[0]


def hyperparameters(config: Mapping[str, Any], default: Hyperparameters) -> Hyperparameters:
    """The hyperparameters of a trial, by its config; HyperOpt does not propose the batch size."""
    if CHAIN in config:
        return default
    return Hyperparameters(**config[PROPOSAL], batch_size=default.batch_size)


def trial_name(config: Mapping[str, Any], default: Hyperparameters) -> str:
    """A name that follows from the trial's config, where Ray's own names are random.

    ``chain-3`` for a chain of stage 1, else eight hexadecimal digits that follow from the hyperparameters.
    """
    if CHAIN in config:
        return f"chain-{config[CHAIN]}"
    return hashlib.sha256(canonical(hyperparameters(config, default)).encode()).hexdigest()[:8]
