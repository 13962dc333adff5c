"""What HyperOpt may propose: a conditional space, each optimizer with hyperparameters of its own.

Values are named by labels, a choice by its index; a value that is fixed has no label.
"""

from __future__ import annotations

from math import log
from typing import Any, TypeVar

from hyperopt import hp, space_eval
from hyperopt.base import Domain

from safs_ray.config import Hyperparameters, OptimizerName, Ranges, SgdRanges, SpaceSection
from safs_ray.search.parzen import Values

Name = TypeVar("Name", bound=str)


def build(space: SpaceSection) -> Domain:
    """The space in HyperOpt's terms: a choice of optimizers; momentum and schedule are sgd's (SAFS, stage 2)."""
    return Domain(None, hp.choice("optimizer", [_branch(name, space.of(name)) for name in space.optimizers]))


def _branch(optimizer: OptimizerName, ranges: Ranges) -> dict[str, Any]:
    branch = {
        "optimizer": optimizer,
        "learning_rate": _log_uniform(f"{optimizer} learning_rate", ranges.learning_rate),
        "weight_decay": _log_uniform(f"{optimizer} weight_decay", ranges.weight_decay),
    }
    if isinstance(ranges, SgdRanges):
        branch["momentum"] = _uniform("sgd momentum", ranges.momentum)
        branch["schedule"] = hp.choice("sgd schedule", list(ranges.schedules))
    return branch


def _uniform(label: str, bounds: tuple[float, float]) -> Any:
    """A range, or the one value in it: TPE divides by a range's width."""
    return bounds[0] if bounds[0] == bounds[1] else hp.uniform(label, *bounds)


def _log_uniform(label: str, bounds: tuple[float, float]) -> Any:
    return bounds[0] if bounds[0] == bounds[1] else hp.loguniform(label, log(bounds[0]), log(bounds[1]))


def nearest(hyperparameters: Hyperparameters, space: SpaceSection) -> Hyperparameters:
    """The hyperparameters of the space that are nearest to these."""
    return _inside(hyperparameters, _one_of(hyperparameters.optimizer, space.optimizers), space)


def values(hyperparameters: Hyperparameters, space: SpaceSection, domain: Domain) -> dict[str, Any]:
    """Hyperparameters of the space by HyperOpt's labels."""
    optimizer = hyperparameters.optimizer
    named = {
        "optimizer": space.optimizers.index(optimizer),
        f"{optimizer} learning_rate": hyperparameters.learning_rate,
        f"{optimizer} weight_decay": hyperparameters.weight_decay,
    }
    if optimizer == "sgd":
        named["sgd momentum"] = hyperparameters.momentum
        named["sgd schedule"] = space.sgd.schedules.index(hyperparameters.schedule)
    return {label: value for label, value in named.items() if label in domain.params}


def hyperparameters(values: Values, space: SpaceSection, domain: Domain, default: Hyperparameters) -> Hyperparameters:
    """The hyperparameters that HyperOpt's values say.

    Args:
        default: where what it does not propose is from: the batch size, and with the same optimizer the rest.
    """
    proposed = space_eval(domain.expr, dict(values))
    kept: dict[str, Any] = {"batch_size": default.batch_size}
    if proposed["optimizer"] == default.optimizer:
        kept["schedule"] = default.schedule
        kept["nesterov"] = default.nesterov and proposed["momentum"] > 0
    return nearest(Hyperparameters(**{**kept, **proposed}), space)  # a logarithm's rounding may leave the range


def _inside(hyperparameters: Hyperparameters, optimizer: OptimizerName, space: SpaceSection) -> Hyperparameters:
    """The hyperparameters of one optimizer's branch that are nearest to these."""
    ranges = space.of(optimizer)
    inside: dict[str, Any] = {
        "optimizer": optimizer,
        "learning_rate": _within(hyperparameters.learning_rate, ranges.learning_rate),
        "weight_decay": _within(hyperparameters.weight_decay, ranges.weight_decay),
        "momentum": 0.0,
        "nesterov": False,
        "schedule": hyperparameters.schedule if optimizer == hyperparameters.optimizer else "constant",
    }
    if isinstance(ranges, SgdRanges):
        inside["momentum"] = _within(hyperparameters.momentum, ranges.momentum)
        inside["nesterov"] = hyperparameters.nesterov and inside["momentum"] > 0
        inside["schedule"] = _one_of(hyperparameters.schedule, ranges.schedules)
    return hyperparameters.model_copy(update=inside)


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def _one_of(value: Name, choices: tuple[Name, ...]) -> Name:
    return value if value in choices else choices[0]
