"""Passes of which those that put no scale on what they read read planes of one scale alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from safs_ray.engine.passes import (
    Collect,
    Function,
    Pass,
    Passes,
    Places,
    Read,
    Scale,
    Slide,
    Value,
    Weigh,
    planes_of,
    read_by,
)
from safs_ray.export.c.expressions import is_identity
from safs_ray.operators import lookup

IDENTITY = np.ones(2, np.float32)


def separated(passes: Passes) -> Passes:
    """Passes that compute the same.

    A window's numbers, or planes and the numbers that they are multiplied with, come from one value each. Where sums
    are rounded, this is neither the images nor the largest of their windows, whose channels have scales of their own.
    The logits are sums that no function is applied to and nothing else reads.
    """
    values = list(passes.values)
    uneven = {one.out for one in passes.passes if isinstance(one, Read)}
    found = [each for one in passes.passes for each in _separated(one, values, uneven)]
    logits = passes.logits
    if not any(_gives_logits(one, logits) for one in found) or any(_reads(one, logits) for one in found):
        copy = _copy(planes_of(logits, values[logits].channels), values)
        found, logits = [*found, copy], copy.out
    return Passes(values, found, logits)


def _separated(one: Pass, values: list[Value], uneven: set[int]) -> Iterator[Pass]:
    """A pass, behind copies of what it reads.

    Args:
        uneven: values whose channels have scales of their own; gets that of the pass.
    """
    match one:
        case Scale(planes=planes, gate=gate):
            if gate in uneven:
                copy = _copy(planes_of(gate, len(planes)), values)
                one = replace(one, gate=copy.out)
                yield copy
            rounds = True
        case Slide(planes=planes, weights=weights) | Collect(planes=planes, weights=weights):
            rounds = weights is not None
        case _:
            yield one
            return
    sources = np.unique(planes.value)
    if len(sources) > 1 or (rounds and not uneven.isdisjoint(sources.tolist())):
        copy = _copy(planes, values)
        one = replace(one, planes=planes_of(copy.out, len(planes)))
        yield copy
    elif not rounds and not uneven.isdisjoint(sources.tolist()):
        uneven.add(one.out)
    yield one


def _copy(planes: Places, values: list[Value]) -> Weigh:
    """A pass that writes planes to a value of its own."""
    count, source = len(planes), values[int(planes.value[0])]
    values.append(Value(count, source.height, source.width))
    same = Function(lookup("linear"), IDENTITY, 0, count)
    return Weigh(len(values) - 1, np.arange(count + 1), planes, np.ones(count), np.zeros(count), [same])


def _gives_logits(one: Pass, logits: int) -> bool:
    """Whether a pass writes the logits as sums, without a function."""
    if not isinstance(one, Weigh) or one.out != logits:
        return False
    return all(is_identity(each.operator, each.parameters.ravel().tolist()) for each in one.functions)


def _reads(one: Pass, value: int) -> bool:
    return any(value in each.value for each in read_by(one))
