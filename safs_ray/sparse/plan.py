"""How a sparse network is executed: what is left of it, and each step's lists. Follows from its masks and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from safs_ray.config import TYPICAL, Costs
from safs_ray.network import Network
from safs_ray.sparse import graph, tables
from safs_ray.sparse.graph import Affine, Average, MaxPool, Normalisation, Step, UnsupportedError
from safs_ray.sparse.lanes import Indices
from safs_ray.sparse.layers import Layer, Linear
from safs_ray.sparse.removal import Live, WeightMasks, kept_weights, live_neurons
from safs_ray.sparse.tables import Slot


class Work(NamedTuple):
    """How often a network does for an image what :class:`Costs` says the times of.

    Attributes:
        dense: uses of a weight in dense layers.
        nonzeros: uses of a weight in layers that know only nonzeros.
        neurons: in any step.
        crossings: of neurons into or out of dense layers among sparse ones.
    """

    dense: int
    nonzeros: int
    neurons: int
    crossings: int

    def time(self, costs: Costs) -> float:
        """In that of a use of a weight in a dense layer."""
        return (
            self.dense + costs.nonzero * self.nonzeros + costs.neuron * self.neurons + costs.crossing * self.crossings
        )


@dataclass(frozen=True)
class Plan:
    """The steps of a sparse network.

    Attributes:
        live: of every step, the neurons that are computed.
        slots: what is left of every module's weight and bias, by its name.
        layers: by index of the step that they do.
        dense: indices of the steps that are layers with too few zeros: they compute with all weights.
        work: what an image takes, forward and backward; and what it takes of the network with all weights.
    """

    steps: tuple[Step, ...]
    live: tuple[Live, ...]
    slots: Mapping[str, Slot]
    layers: Mapping[int, Layer]
    dense: Set[int]
    work: Work
    work_of_dense: Work

    def gain(self, costs: Costs) -> float:
        """How many times faster than the network with all weights it is expected to be."""
        return self.work_of_dense.time(costs) / self.work.time(costs)

    @property
    def pixels(self) -> tuple[Indices, Indices]:
        """Of every live pixel of the images: its channel, and its place, counted through all channels."""
        channel, pixel = np.nonzero(self.live[0])
        return tables.indices(channel), tables.indices(channel * self.steps[0].pixels + pixel)

    @property
    def values(self) -> int:
        """Weights and biases that the masks left."""
        return sum(map(len, self.slots.values()))

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is left, by module, of tensors with the names and shapes of the network's parameters."""
        return {
            owner: torch.cat([tensors[name].flatten()[places] for name, places in slot.places(owner).items()])
            for owner, slot in self.slots.items()
        }

    def scattered(self, values: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of :meth:`gathered`: copies of such tensors, with these values in place of what is left."""
        copies = {}
        for owner, slot in self.slots.items():
            before = 0
            for name, places in slot.places(owner).items():
                copies[name] = tensors[name].clone()
                copies[name].view(-1)[places] = values[owner][before : before + len(places)]
                before += len(places)
        return copies

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By module, which of its tensors each value is of: 0 its weight, 1 its bias."""
        return {
            owner: torch.tensor([0] * len(slot.weights) + [1] * len(slot.biases)) for owner, slot in self.slots.items()
        }

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """By module, what is left of all modules, one behind the other (values,)."""
        parts = torch.split(values, [len(slot) for slot in self.slots.values()])
        return dict(zip(self.slots, parts, strict=True))


def make(network: Network, module: nn.Module, costs: Costs = TYPICAL, nonzeros_only: bool = False) -> Plan:
    """The plan of a network.

    Args:
        module: what the network builds; left in evaluation mode.
        costs: by which layers are computed with all weights or with nonzeros alone.
        nonzeros_only: compute every layer with nonzeros alone.

    Raises:
        UnsupportedError: it cannot be executed so.
    """
    return of_steps(graph.read(module, network.specification.example()), network, costs, nonzeros_only)


def promises_gain(steps: Sequence[Step], network: Network, costs: Costs) -> bool:
    """Whether a plan may well be faster than all weights; found without its lists, which may be long."""
    kept = kept_weights(steps, network)
    dense = [_dense_uses(step, kept) for step in steps]
    least = sum(min(own, costs.nonzero * _nonzero_uses(step, kept)) for own, step in zip(dense, steps, strict=True))
    return PROMISING * least < sum(dense)


PROMISING = 1.2
"""How many times less the weighted sums alone must take."""


def of_steps(steps: tuple[Step, ...], network: Network, costs: Costs = TYPICAL, nonzeros_only: bool = False) -> Plan:
    """The plan of a network whose steps have been read; else as :func:`make`."""
    kept = kept_weights(steps, network)
    whole_channels = _has_whole_channels(steps, kept)
    live = live_neurons(steps, kept, whole_channels)
    slots = _slots(steps, kept)
    dense = _faster_dense(steps, kept, live, costs) if whole_channels and not nonzeros_only else set()
    layers = {
        index: _layer(step, kept, live[step.inputs[0]], live[index], slots, whole_channels)
        for index, step in enumerate(steps)
        if isinstance(step.operation, Affine | Average | MaxPool) and index not in dense
    }
    work = Work(
        sum(_dense_uses(steps[index], kept) for index in dense),
        sum(layer.ahead.uses for layer in layers.values() if isinstance(layer, Linear)),
        sum(int(own.sum()) for own in live),
        sum(_crossings(index, steps) for index in dense),
    )
    return Plan(steps, tuple(live), slots, layers, dense, work, _work_of_dense(steps, kept))


def _work_of_dense(steps: Sequence[Step], kept: WeightMasks) -> Work:
    return Work(sum(_dense_uses(step, kept) for step in steps), 0, sum(step.neurons for step in steps), 0)


def live_count(steps: Sequence[Step], network: Network) -> int:
    """How many neurons a plan computes."""
    kept = kept_weights(steps, network)
    return sum(int(own.sum()) for own in live_neurons(steps, kept, _has_whole_channels(steps, kept)))


def _has_whole_channels(steps: Sequence[Step], kept: WeightMasks) -> bool:
    """Whether every pixel of a channel is computed of which one is needed."""
    return sum(_nonzero_uses(step, kept) for step in steps) > MOST_CONNECTIONS


MOST_CONNECTIONS = 300_000
"""With more, lists of every neuron's own connections cost more than the pixels that they leave out."""


def _faster_dense(steps: Sequence[Step], kept: WeightMasks, live: Sequence[Live], costs: Costs) -> set[int]:
    """Steps that are layers between wholly live values, faster with all weights."""
    return {
        index
        for index, step in enumerate(steps)
        if isinstance(step.operation, Affine)
        and all(live[end].all() for end in (*step.inputs, index))
        and costs.nonzero * _nonzero_uses(step, kept)
        > _dense_uses(step, kept) + costs.crossing * _crossings(index, steps)
    }


def _crossings(index: int, steps: Sequence[Step]) -> int:
    return sum(steps[end].neurons for end in (*steps[index].inputs, index))


def _dense_uses(step: Step, kept: WeightMasks) -> int:
    """How often a dense layer uses a weight for one image; a convolution fills its channels up to eights."""
    if not isinstance(step.operation, Affine):
        return 0
    outputs, inputs, places = kept[step.operation.owner].shape
    if step.operation.groups == 1 and len(step.operation.table) > 1:
        outputs, inputs = 8 * -(-outputs // 8), 8 * -(-inputs // 8)
    return int(outputs * inputs * places * step.pixels)


def _nonzero_uses(step: Step, kept: WeightMasks) -> int:
    """How often a kept weight is used for one image."""
    return int(kept[step.operation.owner].sum()) * step.pixels if isinstance(step.operation, Affine) else 0


def _slots(steps: Sequence[Step], kept: WeightMasks) -> dict[str, Slot]:
    """All that a mask has left of every module, also what has no gradient: optimizers go on with it."""
    slots: dict[str, Slot] = {}
    for step in steps:
        if isinstance(step.operation, Affine):
            mask = kept[step.operation.owner]
            biases = np.arange(len(mask) if step.operation.bias else 0)
            slots[step.operation.owner] = Slot(np.flatnonzero(mask), biases)
        elif isinstance(step.operation, Normalisation):
            if step.operation.owner in slots:
                raise UnsupportedError(f"{step.operation.owner} normalises twice")
            channels = np.arange(step.channels)
            slots[step.operation.owner] = Slot(channels, channels)
    return slots


def _layer(
    step: Step, kept: WeightMasks, source: Live, target: Live, slots: Mapping[str, Slot], whole_channels: bool
) -> Layer:
    match step.operation:
        case Affine() as affine:
            build = tables.by_channels if whole_channels else tables.by_neurons
            return build(affine, kept[affine.owner], source, target, slots[affine.owner])
        case Average() as operation:
            return tables.average(operation, source, target)
        case MaxPool() as operation:
            return tables.max_pool(operation, source, target)
    raise TypeError(f"{type(step.operation).__name__} is done by torch")
