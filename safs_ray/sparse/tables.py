"""The lists of indices that the kernels run over, for a layer between the live neurons of two values.

Two ways to write the same sums. By neurons: a list for every neuron, of live neurons alone. By channels: where
whole planes are live, pixels that see the same places of their windows share one list, as all do but those at the
border; the lists then are as long as the weights, not as the weights times the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from safs_ray.sparse.graph import Affine, Average, MaxPool
from safs_ray.sparse.lanes import Indices
from safs_ray.sparse.layers import Combination, ConstantSums, Correlation, Linear, Pool
from safs_ray.sparse.removal import Live, Numbers, connections, input_channels
from safs_ray.sparse.windows import Table

BAND = 32
"""Pixels of all channels that are computed before the next: what they read stays in the cache."""

NOWHERE = np.iinfo(np.int32).max
"""Stands in a table of offsets for a place outside the image."""


@dataclass(frozen=True)
class Slot:
    """What is left of a module's weight and bias: indices into the flattened tensors, ascending."""

    weights: Numbers
    biases: Numbers

    def __len__(self) -> int:
        return len(self.weights) + len(self.biases)

    def places(self, owner: str) -> dict[str, Tensor]:
        """The indices by the tensor's name in the network's state."""
        named = {f"{owner}.weight": torch.from_numpy(self.weights)}
        return {**named, f"{owner}.bias": torch.from_numpy(self.biases)} if len(self.biases) else named


def rows_of(live: Live) -> Numbers:
    """By neuron, counted through all channels, its row among the live ones; meaningless for the others."""
    return np.cumsum(live.ravel()) - 1


def by_neurons(affine: Affine, kept: Live, source: Live, target: Live, slot: Slot) -> Linear:
    """The layer with a list for every live neuron."""
    found = connections(affine, kept, source.shape[1])
    needed = target.ravel()[found.target]
    ahead = rows_of(target)[found.target[needed]]
    behind = rows_of(source)[found.source[needed]]
    weight = np.searchsorted(slot.weights, found.weight[needed])
    lists = np.arange(len(slot.weights))
    starts, *pairs = _grouped(weight, len(lists), ahead, behind)
    return Linear(
        _listed(ahead, behind, weight, int(target.sum()), _bias(target, slot)),
        _listed(behind, ahead, weight, int(source.sum())),
        Correlation(_columns(lists, 0 * lists, 0 * lists, lists), 1, starts, _columns(*pairs)),
        *_grouped(*_bias_rows(target, slot)),
    )


def by_channels(affine: Affine, kept: Live, source: Live, target: Live, slot: Slot) -> Linear:
    """The layer with lists that pixels share; ``source`` and ``target`` are whole planes or none."""
    output, channel, place = np.unravel_index(slot.weights, kept.shape)
    channel = input_channels(affine, kept.shape)[output, channel]
    used = target[output, 0]
    ahead, behind = rows_of(target[:, :1])[output], rows_of(source[:, :1])[channel]
    nonzeros = ahead[used], behind[used], place[used], np.flatnonzero(used)
    back = behind[used], ahead[used], place[used], np.flatnonzero(used)
    bands = -(-target.shape[1] // BAND)
    pixel, where = np.nonzero(affine.table >= 0)
    places = affine.table.shape[1]
    lists = np.where(used, place, places)  # the last is empty
    order = np.lexsort((lists, ahead))  # weights of an output and a place are neighbours
    starts, *pairs = _grouped(where * bands + pixel // BAND, (places + 1) * bands, pixel, affine.table[pixel, where])
    return Linear(
        _shared(affine.table, nonzeros, int(target[:, 0].sum()), source.shape[1], _bias(target, slot)),
        _shared(_inverse(affine.table, source.shape[1]), back, int(source[:, 0].sum()), target.shape[1]),
        Correlation(
            _columns(*(each[order] for each in (lists, ahead * target.shape[1], behind * source.shape[1])), order),
            bands,
            starts,
            _columns(*pairs),
        ),
        *_grouped(*_bias_rows(target, slot)),
    )


def average(operation: Average, source: Live, target: Live) -> ConstantSums:
    """Average pooling between live neurons."""
    channel, pixel = np.nonzero(target)
    seen = operation.table[pixel]
    row, place = np.nonzero(seen >= 0)
    behind = rows_of(source)[channel[row] * source.shape[1] + seen[row, place]]
    count = int(target.sum())
    return ConstantSums(
        _listed(row, behind, pixel[row], count),
        _listed(behind, row, pixel[row], int(source.sum())),
        operation.weight,
    )


def max_pool(operation: MaxPool, source: Live, target: Live) -> Pool:
    """Maximum pooling between live neurons."""
    channel, pixel = np.nonzero(target)
    seen = operation.table[pixel]
    first = np.where(seen >= 0, seen, NOWHERE).min(1, keepdims=True)
    inside = np.where(seen >= 0, seen, first)  # a place outside repeats the first inside
    rows = rows_of(source)[channel[:, None] * source.shape[1] + inside]
    return Pool(indices(rows), apart=bool((np.bincount(rows.ravel(), minlength=int(source.sum())) == 1).all()))


def _listed(target: Numbers, source: Numbers, weight: Numbers, count: int, bias: Numbers | None = None) -> Combination:
    """Rows of which each has a list of its own."""
    starts, *nonzeros = _grouped(target, count, source, weight)
    rows = np.arange(count)
    return Combination(
        _columns(rows, rows, 0 * rows, np.full(count, -1) if bias is None else bias), starts, _columns(*nonzeros)
    )


def _shared(
    table: Table, nonzeros: Sequence[Numbers], channels: int, pixels: int, bias: Numbers | None = None
) -> Combination:
    """Planes whose pixels share lists.

    Args:
        table: what a pixel sees of a plane of ``pixels``.
        nonzeros: of every nonzero weight the channel it adds to, the channel it reads, its place, its index.
        channels: how many the result has.
    """
    base = np.min(np.where(table >= 0, table, NOWHERE), axis=1)
    offsets = np.where(table >= 0, table - base[:, None], NOWHERE)
    kinds, kind = np.unique(offsets, axis=0, return_inverse=True)
    ahead, behind, place, weight = nonzeros
    number, nonzero = np.nonzero(kinds[:, place] != NOWHERE)
    starts, *listed = _grouped(
        number * channels + ahead[nonzero],
        len(kinds) * channels,
        behind[nonzero] * pixels + kinds[number, place[nonzero]],
        weight[nonzero],
    )
    channel, pixel = (grid.ravel() for grid in np.indices((channels, len(table))))
    order = np.lexsort((pixel, channel, pixel // BAND))
    channel, pixel = channel[order], pixel[order]
    rows = channel * len(table) + pixel
    table_of_rows = _columns(
        rows,
        kind.ravel()[pixel] * channels + channel,
        np.where(base == NOWHERE, 0, base)[pixel],
        np.full(len(rows), -1) if bias is None else bias[rows],
    )
    return Combination(table_of_rows, starts, _columns(*listed))


def _inverse(table: Table, pixels: int) -> Table:
    """(pixels, places): which pixel of the result sees an input's pixel at a place of its window; -1 none."""
    inverse = np.full((pixels, table.shape[1]), -1)
    pixel, place = np.nonzero(table >= 0)
    inverse[table[pixel, place], place] = pixel
    return inverse


def _bias(target: Live, slot: Slot) -> Numbers:
    """By row, the index of its bias among the slot's values; -1: none."""
    channel = np.nonzero(target)[0]
    if not len(slot.biases):
        return np.full(len(channel), -1)
    return len(slot.weights) + np.searchsorted(slot.biases, channel)


def _bias_rows(target: Live, slot: Slot) -> tuple[Numbers, int, Numbers]:
    channel = np.nonzero(target)[0] if len(slot.biases) else np.zeros(0, np.int64)
    return np.searchsorted(slot.biases, channel), len(slot.biases), np.arange(len(channel))


def _grouped(group: Numbers, count: int, *columns: Numbers) -> tuple[Indices, ...]:
    """Where each of ``count`` groups starts and, behind the last, ends; then the columns in the order of groups."""
    order = np.argsort(group, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(group, minlength=count))))
    return indices(starts), *(indices(column[order]) for column in columns)


def _columns(*columns: Numbers | Indices) -> Indices:
    """(n, columns): what belongs to one entry lies together."""
    return indices(np.stack(columns, axis=1))


def indices(values: npt.NDArray[np.generic]) -> Indices:
    """As the kernels take them."""
    return np.ascontiguousarray(values, dtype=np.int32)
