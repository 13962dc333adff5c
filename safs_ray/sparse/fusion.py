"""Which steps are computed in the same passes: a batch normalisation with what is before it and behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from safs_ray.sparse.graph import Activation, MaxPool, Normalisation, Sum
from safs_ray.sparse.layers import Linear, Pool
from safs_ray.sparse.plan import Plan


@dataclass(frozen=True)
class Unit:
    """Steps that are computed together, by their indices. Each but the last is read by the next one alone.

    Attributes:
        norm: the batch normalisation.
        layer: before it.
        total: the sum of it and of another value.
        activation, pool: behind it.
        inputs: what is read from outside, the value that is added last.
    """

    norm: int
    layer: int | None
    total: int | None
    activation: int | None
    pool: int | None
    inputs: tuple[int, ...]

    @property
    def steps(self) -> list[int]:
        """All of them, in order."""
        every = (self.layer, self.norm, self.total, self.activation, self.pool)
        return [index for index in every if index is not None]


def units(plan: Plan, compilable: Collection[str]) -> dict[int, Unit]:
    """The units of a plan, by the index of their last step.

    Args:
        compilable: the sites whose operators can be compiled.
    """
    readers: dict[int, list[int]] = defaultdict(list)
    for index, step in enumerate(plan.steps):
        for source in step.inputs:
            readers[source].append(index)
    found: dict[int, Unit] = {}
    for index, step in enumerate(plan.steps):
        if isinstance(step.operation, Normalisation):
            unit = _unit(plan, index, readers, compilable, {each for unit in found.values() for each in unit.steps})
            found[unit.steps[-1]] = unit
    return found


def _unit(
    plan: Plan, norm: int, readers: dict[int, list[int]], compilable: Collection[str], taken: Collection[int]
) -> Unit:
    """The largest unit of a normalisation that takes none of the steps which others have taken."""

    def next_of(index: int) -> int:
        """The only step that reads a value, and that is free; -1: there is none."""
        only = readers[index] if len(readers[index]) == 1 else [-1]
        return -1 if only[0] in taken else only[0]

    (source,) = plan.steps[norm].inputs
    layer = source if isinstance(plan.layers.get(source), Linear) and readers[source] == [norm] else None
    inputs = plan.steps[norm if layer is None else layer].inputs
    last, total, activation, pool = norm, None, None, None
    if isinstance(_operation(plan, next_of(last)), Sum):
        last = total = next_of(last)
        inputs = *inputs, *(each for each in plan.steps[total].inputs if each != norm)
    operation = _operation(plan, next_of(last))
    if isinstance(operation, Activation) and operation.site in compilable:
        last = activation = next_of(last)
    if isinstance(_operation(plan, next_of(last)), MaxPool) and _pools_whole_planes(plan, next_of(last)):
        pool = next_of(last)
    return Unit(norm, layer, total, activation, pool, inputs)


def _operation(plan: Plan, index: int) -> object:
    return plan.steps[index].operation if index >= 0 else None


MOST_PLACES = 9
"""Of a window in a unit: its code has the activation once for every place, and takes the longer to compile."""


def _pools_whole_planes(plan: Plan, index: int) -> bool:
    """Whether a pooling has small windows side by side, and all of the channels that it reads."""
    layer, source = plan.layers[index], plan.steps[index].inputs[0]
    alike = np.array_equal(plan.live[index].all(1), plan.live[source].any(1))
    return isinstance(layer, Pool) and layer.apart and alike and layer.windows.shape[1] <= MOST_PLACES
