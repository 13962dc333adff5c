"""How a sparse network is executed: what is left of it, and each step's lists. Follows from its masks alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from safs_ray.network import Network
from safs_ray.sparse import graph, tables
from safs_ray.sparse.graph import Affine, Average, MaxPool, Step
from safs_ray.sparse.layers import Layer
from safs_ray.sparse.removal import Kept, Live, connections, live_neurons
from safs_ray.sparse.tables import Slot


@dataclass(frozen=True)
class Plan:
    """The steps of a sparse network.

    Attributes:
        live: of every step, the neurons that are computed.
        slots: what is left of every module's weight and bias, by its name.
        layers: by index of the step that they do.
    """

    steps: tuple[Step, ...]
    live: tuple[Live, ...]
    slots: Mapping[str, Slot]
    layers: Mapping[int, Layer]

    @property
    def pays(self) -> bool:
        return True


def make(network: Network, whole_channels: bool = False) -> Plan:
    """The plan of a network.

    Raises:
        UnsupportedError: it cannot be executed so.
    """
    steps = graph.read(network.build(), network.specification.example())
    kept = _kept(steps, network)
    live = live_neurons(steps, kept, whole_channels)
    slots = _slots(steps, live, kept, whole_channels)
    layers = {
        index: _layer(step, kept, live[step.inputs[0]], live[index], slots, whole_channels)
        for index, step in enumerate(steps)
        if isinstance(step.operation, Affine | Average | MaxPool)
    }
    return Plan(steps, tuple(live), slots, layers)


def _kept(steps: Sequence[Step], network: Network) -> Kept:
    """The mask of every convolution and linear layer as (outputs, inputs / groups, places); all True without one."""
    kept = {}
    for step in steps:
        if isinstance(step.operation, Affine):
            name = f"{step.operation.owner}.weight"
            weight = network.state[name]
            mask = network.masks[name].numpy() if name in network.masks else np.ones(weight.shape, np.bool_)
            kept[step.operation.owner] = mask.reshape(*weight.shape[:2], -1)
    return kept


def _slots(steps: Sequence[Step], live: Sequence[Live], kept: Kept, whole_channels: bool) -> dict[str, Slot]:
    """A module that is applied twice has one slot: what either of its steps needs."""
    slots: dict[str, Slot] = {}
    for step, target in zip(steps, live, strict=True):
        if isinstance(step.operation, Affine):
            affine, outputs = step.operation, np.asarray(target.any(1))
            if whole_channels:
                weights = np.flatnonzero(kept[affine.owner] & outputs[:, None, None])
            else:
                found = connections(affine, kept[affine.owner], pixels=1)
                weights = np.unique(found.weight[target.ravel()[found.target]])
            biases = np.flatnonzero(outputs) if affine.bias else np.zeros(0, np.int64)
            slots[affine.owner] = Slot(weights, biases).union(slots.get(affine.owner))
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
