"""Checks of what is added from outside the package: a strategy, a pruning score, a pruning schedule, an operator.

In a test of your own::

    from safs_ray.testing import check_strategy

    def test_my_strategy() -> None:
        check_strategy(MyStrategy)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from safs_ray.operators import lookup
from safs_ray.pruning import contract as pruning
from safs_ray.pruning.scores import Score
from safs_ray.search import contract as search
from safs_ray.search.contract import MakeStrategy

__all__ = ["check_operator", "check_score", "check_strategy"]


def check_strategy(make: MakeStrategy) -> None:
    """Check that a strategy keeps the contract of :class:`safs_ray.search.strategy.Strategy`.

    Args:
        make: its class, or a function: of the operators, the starting assignment and a seed.

    Raises:
        AssertionError: naming the promise that it breaks.

    Examples:
        >>> from safs_ray.search.random import RandomSearch
        >>> check_strategy(RandomSearch)
        >>> check_strategy(lambda operators, start, seed: RandomSearch(operators, start, seed=0))
        Traceback (most recent call last):
        AssertionError: proposes the same whatever the seed
    """
    fault = search.fault_of(make)
    assert fault is None, fault


def check_score(score: Score, make: Callable[[], nn.Module] | None = None, channels: int = 1, size: int = 8) -> None:
    """Check that a pruning score gives a finite number for every prunable weight, the same each time.

    Args:
        make: builds a network of images (N, channels, size, size) to try it on.

    Raises:
        AssertionError: naming the promise that it breaks.

    Examples:
        >>> check_score(lambda evidence: {name: weight.detach().abs() for name, weight in evidence.weights.items()})
        >>> check_score(lambda evidence: {name: weight.abs() for name, weight in evidence.weights.items()})
        Traceback (most recent call last):
        AssertionError: gives scores for 0.weight that still have a gradient
    """
    fault = pruning.fault_of(score, make, channels, size)
    assert fault is None, fault


def check_operator(name: str) -> None:
    """Check that ``package.module:function`` is an operator: element by element, with finite values and gradients.

    Raises:
        ConfigurationError: naming what it is not.

    Examples:
        >>> check_operator("torch:erf")
        >>> check_operator("torch:sign")
        Traceback (most recent call last):
        safs_ray.config.refusals.ConfigurationError: operator=torch:sign: has a gradient of 0 everywhere
    """
    operator = lookup(name)
    assert operator.function(torch.zeros(1), *operator.start().values()).shape == (1,)
