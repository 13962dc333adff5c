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

from safs_ray.config import Hyperparameters, OptimizerName, SpaceSection
from safs_ray.search.evaluation import canonical

Name = TypeVar("Name", bound=str)

PROPOSAL = "hyperparameters"
"""Key of HyperOpt's proposal in a trial's config."""

CHAIN = "chain"
"""Key of the number of a chain of stage 1, which has the default hyperparameters, in a trial's config."""


def build(space: SpaceSection) -> dict[str, Any]:
    """The space in HyperOpt's terms: a choice of optimizers; momentum and schedule are sgd's (SAFS, stage 2)."""
    return {PROPOSAL: hp.choice("p_optimizer", [_branch(name, space) for name in space.optimizers])}


def _branch(optimizer: str, space: SpaceSection) -> dict[str, Any]:
    branch = {
        "optimizer": optimizer,
        "learning_rate": _log_uniform(f"p_{optimizer}_learning_rate", space.learning_rate),
        "weight_decay": _log_uniform(f"p_{optimizer}_weight_decay", space.weight_decay),
    }
    if optimizer == "sgd":
        branch["momentum"] = hp.uniform("p_sgd_momentum", *space.momentum)
        branch["schedule"] = hp.choice("p_sgd_schedule", list(space.schedules))
    return branch


def _log_uniform(label: str, bounds: tuple[float, float]) -> Any:
    return hp.loguniform(label, log(bounds[0]), log(bounds[1]))


def nearest(hyperparameters: Hyperparameters, space: SpaceSection) -> Hyperparameters:
    """The hyperparameters of the space that are nearest to these."""
    optimizer: OptimizerName = _one_of(hyperparameters.optimizer, space.optimizers)
    inside = hyperparameters.model_copy(
        update={
            "optimizer": optimizer,
            "nesterov": False,
            "learning_rate": _within(hyperparameters.learning_rate, space.learning_rate),
            "weight_decay": _within(hyperparameters.weight_decay, space.weight_decay),
        }
    )
    if optimizer != "sgd":
        return inside.model_copy(update={"momentum": 0.0, "schedule": "constant"})
    return inside.model_copy(
        update={
            "momentum": _within(hyperparameters.momentum, space.momentum),
            "schedule": _one_of(hyperparameters.schedule, space.schedules),
        }
    )


def point(hyperparameters: Hyperparameters, space: SpaceSection) -> dict[str, Any]:
    """Hyperparameters of the space as HyperOpt's labels and values."""
    labels: dict[str, Any] = {"p_optimizer": space.optimizers.index(hyperparameters.optimizer)}
    for optimizer in space.optimizers:
        labels[f"p_{optimizer}_learning_rate"] = hyperparameters.learning_rate
        labels[f"p_{optimizer}_weight_decay"] = hyperparameters.weight_decay
    if "sgd" in space.optimizers:
        labels["p_sgd_momentum"] = _within(hyperparameters.momentum, space.momentum)
        labels["p_sgd_schedule"] = space.schedules.index(_one_of(hyperparameters.schedule, space.schedules))
    return labels


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
