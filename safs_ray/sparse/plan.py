"""How a sparse network is executed: what is left of it, and each step's lists. Follows from its masks alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from safs_ray.network import Network
from safs_ray.sparse import graph, tables
from safs_ray.sparse.graph import Affine, Average, MaxPool, Normalisation, Step, UnsupportedError
from safs_ray.sparse.kernels import Indices
from safs_ray.sparse.layers import Layer, Linear
from safs_ray.sparse.removal import Kept, Live, kept_weights, live_neurons
from safs_ray.sparse.tables import Slot


@dataclass(frozen=True)
class Plan:
    """The steps of a sparse network.

    Attributes:
        live: of every step, the neurons that are computed.
        slots: what is left of every module's weight and bias, by its name.
        layers: by index of the step that they do.
        gain: how many times faster than dense execution it is expected to be.
    """

    steps: tuple[Step, ...]
    live: tuple[Live, ...]
    slots: Mapping[str, Slot]
    layers: Mapping[int, Layer]
    gain: float

    @property
    def neurons(self) -> int:
        """That are computed, of all steps."""
        return sum(int(live.sum()) for live in self.live)

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


def make(network: Network, module: nn.Module) -> Plan:
    """The plan of a network.

    Args:
        module: what the network builds; left in evaluation mode.

    Raises:
        UnsupportedError: it cannot be executed so.
    """
    steps = graph.read(module, network.specification.example())
    kept = kept_weights(steps, network)
    whole_channels = _uses(steps, kept) > MOST_CONNECTIONS
    live = live_neurons(steps, kept, whole_channels)
    slots = _slots(steps, kept)
    layers = {
        index: _layer(step, kept, live[step.inputs[0]], live[index], slots, whole_channels)
        for index, step in enumerate(steps)
        if isinstance(step.operation, Affine | Average | MaxPool)
    }
    return Plan(steps, tuple(live), slots, layers, _gain(steps, kept, live, layers))


MOST_CONNECTIONS = 300_000
"""With more, lists of every neuron's own connections cost more than the pixels that they leave out."""

SPARSE_USE = 3.0
NEURON = 20.0
"""Time of a use of a nonzero, and of a neuron in any step, in that of a use of a weight in a dense layer, which is
0.02 ns; forward and backward, medians on one core with AVX-512. Fixed: a choice by the clock would change from run to
run, and the bits of the results with it."""


def _gain(steps: Sequence[Step], kept: Kept, live: Sequence[Live], layers: Mapping[int, Layer]) -> float:
    uses = sum(layer.ahead.uses for layer in layers.values() if isinstance(layer, Linear))
    sparse = SPARSE_USE * uses + NEURON * sum(int(own.sum()) for own in live)
    dense = sum(_dense_uses(step, kept) for step in steps) + NEURON * sum(step.neurons for step in steps)
    return dense / sparse


def _dense_uses(step: Step, kept: Kept) -> int:
    """How often a dense layer uses a weight for one image; a convolution fills its channels up to eights."""
    if not isinstance(step.operation, Affine):
        return 0
    outputs, inputs, places = kept[step.operation.owner].shape
    if step.operation.groups == 1 and len(step.operation.table) > 1:
        outputs, inputs = 8 * -(-outputs // 8), 8 * -(-inputs // 8)
    return int(outputs * inputs * places * step.pixels)


def _uses(steps: Sequence[Step], kept: Kept) -> int:
    """How often a kept weight is used for one image."""
    return sum(
        int(kept[step.operation.owner].sum()) * step.pixels for step in steps if isinstance(step.operation, Affine)
    )


def _slots(steps: Sequence[Step], kept: Kept) -> dict[str, Slot]:
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
    step: Step, kept: Kept, source: Live, target: Live, slots: Mapping[str, Slot], whole_channels: bool
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
