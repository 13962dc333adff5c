"""A plan whose steps form a chain, as the arrays that :mod:`safs_ray.sparse.blocks` runs over."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import torch

from safs_ray.network import Network
from safs_ray.sparse import blocks
from safs_ray.sparse.blocks import COLUMNS, Program
from safs_ray.sparse.graph import Activation, Affine, Normalisation, Same, Sum
from safs_ray.sparse.lanes import LANES, Floats, Indices
from safs_ray.sparse.layers import Combination, ConstantSums, Layer, Linear, Pool
from safs_ray.sparse.plan import Plan

CACHED_BYTES = 8 << 20
"""A block's neurons take no more: else a batch goes through layer by layer, which several threads share."""


def is_chain(plan: Plan) -> bool:
    """Whether every step reads the one before it alone, each image by itself, with nonzeros, and a block is small."""
    follows = all(step.inputs == (index,) for index, step in enumerate(plan.steps[1:]))
    alone = not any(isinstance(step.operation, Normalisation | Sum) for step in plan.steps)
    return follows and alone and not plan.dense and plan.work.neurons * LANES * 4 <= CACHED_BYTES


class Lists:
    """Lists of indices of all steps, put one behind the other by their numbers of columns."""

    def __init__(self) -> None:
        self._parts: dict[int, list[Indices]] = {columns: [] for columns in (1, 2, 4)}
        self._ends = dict.fromkeys(self._parts, 0)

    def add(self, entries: Indices) -> int:
        """Where the entries (n,) or (n, columns) begin among those of as many columns."""
        columns = entries.shape[1] if entries.ndim == 2 else 1
        first = self._ends[columns]
        self._parts[columns].append(entries.reshape(-1, columns))
        self._ends[columns] += len(entries)
        return first

    def joined(self, columns: int) -> Indices:
        return np.concatenate([np.zeros((0, columns), np.int32), *self._parts[columns]])


def program(plan: Plan, network: Network) -> Program:
    """The program of a network whose plan is a chain."""
    lists, fixed = Lists(), [np.zeros(0)]
    levels = levels_of(network)
    sites = {site: number for number, site in enumerate(network.sites)}
    places = dict(zip(plan.slots, accumulate(map(len, plan.slots.values()), initial=0), strict=False))
    counts = [int(live.sum()) for live in plan.live]
    steps: list[list[int]] = []
    first, end = 0, counts[0]  # the rows of the latest value
    for index, step in enumerate(plan.steps[1:], start=1):
        source = [first, counts[index - 1]]
        if isinstance(step.operation, Same):
            continue
        first, end = end, end + counts[index]
        rows = [*source, first, counts[index]]
        match step.operation:
            case Activation(site):
                steps.append([blocks.ACTIVATION, *rows, sites[site]])
            case Affine(owner):
                steps.append([blocks.AFFINE, *rows, places[owner], *_of_layer(plan.layers[index], lists)])
            case _:
                layer = plan.layers[index]
                if isinstance(layer, Pool):
                    windows = lists.add(layer.windows.ravel())
                    steps.append([blocks.POOL, *rows, 0, windows, layer.windows.shape[1], int(layer.apart)])
                elif isinstance(layer, ConstantSums):
                    own = [lists.add(each) for each in (*_of(layer.ahead), *_of(layer.back))]
                    steps.append([blocks.FIXED, *rows, sum(map(len, fixed)), *own])
                    fixed.append(layer.weights)
    return Program(
        np.array([row + [0] * (COLUMNS - len(row)) for row in steps]),
        lists.joined(1)[:, 0],
        lists.joined(2),
        lists.joined(4),
        np.concatenate(fixed).astype(levels.dtype),
        levels,
        *plan.pixels,
    )


def levels_of(network: Network) -> Floats:
    """(C, 256) of a network's bytes, as :func:`safs_ray.sparse.kernels.gather` takes them; of numbers nothing."""
    specification = network.specification
    levels = specification.levels() if specification.kind == "uint8" else torch.zeros(0, 256)
    return levels.to(network.dtype).numpy()


def _of(combination: Combination) -> tuple[Indices, Indices, Indices]:
    return combination.rows, combination.starts, combination.nonzeros


def _of_layer(layer: Layer, lists: Lists) -> list[int]:
    """The columns of an affine step from ROWS on."""
    assert isinstance(layer, Linear)
    pairs = layer.pairs
    return [
        *(lists.add(each) for each in (*_of(layer.ahead), *_of(layer.back))),
        lists.add(pairs.weights),
        len(pairs.weights),
        pairs.bands,
        lists.add(pairs.starts),
        lists.add(pairs.pairs),
        len(layer.bias_starts) - 1,
        lists.add(layer.bias_starts),
        lists.add(layer.bias_rows),
    ]
