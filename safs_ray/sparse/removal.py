"""What can be left out exactly: neurons from which no path of kept weights leads to the output.

They change no logit, so no gradient reaches what feeds them: their weights and biases have a gradient of 0. Neurons
that see no input stay: their bias is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from safs_ray.network import Network
from safs_ray.sparse.graph import Activation, Affine, Average, Images, MaxPool, Normalisation, Same, Step, Sum
from safs_ray.sparse.windows import Table

Live = npt.NDArray[np.bool_]
"""(channels, pixels) of a step's value, True where it is needed."""

Channels = npt.NDArray[np.bool_]
"""(channels,) of a step: whether it is needed."""

WeightMasks = Mapping[str, npt.NDArray[np.bool_]]
"""By owner: the mask (outputs, inputs / groups, places) of a weight."""

Mark = Callable[[Step, Channels, Sequence[Channels], WeightMasks], None]

Numbers = npt.NDArray[np.int64]


def kept_weights(steps: Sequence[Step], network: Network) -> WeightMasks:
    """The mask of every convolution and linear layer as (outputs, inputs / groups, places); all True without one."""
    kept = {}
    for step in steps:
        if isinstance(step.operation, Affine):
            name = f"{step.operation.owner}.weight"
            weight = network.state[name]
            mask = network.masks[name].numpy() if name in network.masks else np.ones(weight.shape, np.bool_)
            kept[step.operation.owner] = mask.reshape(*weight.shape[:2], -1)
    return kept


class Connections(NamedTuple):
    """Every use of a kept weight: the neuron it adds to, the neuron it reads, its place in the flattened weight."""

    target: Numbers
    source: Numbers
    weight: Numbers


def connections(affine: Affine, kept: npt.NDArray[np.bool_], pixels: int) -> Connections:
    """All connections of a layer whose input has planes of ``pixels``; neurons are counted through all channels."""
    weight = np.flatnonzero(kept)
    output, channel, place = np.unravel_index(weight, kept.shape)
    channel = input_channels(affine, kept.shape)[output, channel]
    seen = affine.table[:, place]
    target = output * len(affine.table) + np.arange(len(affine.table))[:, None]
    inside = seen >= 0
    return Connections(target[inside], (channel * pixels + seen)[inside], np.broadcast_to(weight, seen.shape)[inside])


def input_channels(affine: Affine, shape: Sequence[int]) -> Numbers:
    """(outputs, inputs / groups): the input's channel that a weight reads."""
    group = np.arange(shape[0]) // (shape[0] // affine.groups)
    return group[:, None] * shape[1] + np.arange(shape[1])


def live_neurons(steps: Sequence[Step], kept: WeightMasks, whole_channels: bool) -> list[Live]:
    """The neurons of every step that must be computed.

    A sum and an elementwise step have the same live neurons as what they read, so that arrays of live neurons
    align; a batch normalisation has whole channels, whose statistics it needs.

    Args:
        whole_channels: keep every pixel of a channel of which one is needed.
    """
    live = [np.zeros((step.channels, step.pixels), np.bool_) for step in steps]
    live[-1][:] = True
    count = -1
    while count != (count := sum(int(own.sum()) for own in live)):  # until a pass adds none
        for step, own in zip(reversed(steps), reversed(live), strict=True):
            if whole_channels or isinstance(step.operation, Normalisation):
                own |= own.any(1, keepdims=True)
            for index in step.inputs:
                _require(step, own, live[index], kept, whole_channels)
    return live


def mark_needed(step: Step, own: Channels, sources: Sequence[Channels], kept: WeightMasks) -> None:
    """Mark the channels of its sources that a step's own needed channels read."""
    for source in sources:
        if isinstance(step.operation, Affine):
            mask = kept[step.operation.owner]
            source[input_channels(step.operation, mask.shape)[own][mask[own].any(2)]] = True
        else:  # flattened channels lie behind each other
            source |= own.reshape(len(source), -1).any(1)


def needed_channels(steps: Sequence[Step], kept: WeightMasks, mark: Mark = mark_needed) -> list[Channels]:
    """The channels of every step from which a path of kept weights leads to the output; of a sum each side's own."""
    needed = [np.zeros(step.channels, np.bool_) for step in steps]
    needed[-1][:] = True
    for step, own in zip(reversed(steps), reversed(needed), strict=True):  # what reads a step comes after it
        mark(step, own, [needed[index] for index in step.inputs], kept)
    return needed


def _require(step: Step, own: Live, source: Live, kept: WeightMasks, whole_channels: bool) -> None:
    """Mark what a step's live neurons read."""
    match step.operation:
        case Affine() as affine:
            read = _read_channels if whole_channels else _read_neurons
            source |= read(affine, own, source, kept[affine.owner])
        case MaxPool(table) | Average(table):
            source |= _seen(table, own, source)
        case Activation() | Normalisation() | Sum() | Same():
            source |= own.reshape(source.shape)
            own |= source.reshape(own.shape)
        case Images():
            pass


def _read_neurons(affine: Affine, own: Live, source: Live, kept: npt.NDArray[np.bool_]) -> Live:
    found = connections(affine, kept, source.shape[1])
    read = np.zeros(source.size, np.bool_)
    read[found.source[own.ravel()[found.target]]] = True
    return read.reshape(source.shape)


def _read_channels(affine: Affine, own: Live, source: Live, kept: npt.NDArray[np.bool_]) -> Live:
    outputs = own.any(1)
    read = np.zeros(len(source), np.bool_)
    read[input_channels(affine, kept.shape)[outputs][kept[outputs].any(2)]] = True
    return np.broadcast_to(read[:, None], source.shape)


def _seen(table: Table, own: Live, source: Live) -> Live:
    seen = np.zeros_like(source)
    for pixel, places in enumerate(table):
        seen[:, places[places >= 0]] |= own[:, [pixel]]
    return seen
