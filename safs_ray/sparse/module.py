"""The sparse network as a module: live neurons, and one vector of the values of what is left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from safs_ray.activations import ScaledActivation
from safs_ray.network import Network
from safs_ray.sparse.activate import Activate, ActivateFrozen
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.graph import (
    Activation,
    Affine,
    Average,
    Images,
    MaxPool,
    Normalisation,
    Operation,
    Same,
    Sum,
)
from safs_ray.sparse.kernels import gather
from safs_ray.sparse.lanes import LANES, Floats
from safs_ray.sparse.layers import apply, empty, side_by_side
from safs_ray.sparse.normalise import IDENTITY, Normalise, normalise
from safs_ray.sparse.operators import compiled
from safs_ray.sparse.plan import Plan
from safs_ray.sparse.program import levels_of
from safs_ray.sparse.symbols import NotCompilableError

NOTHING = torch.empty(0)

PIECE_BYTES = 8 << 20
"""A batch goes through a layer in pieces, side by side, whose largest array is no larger: the last cache holds it."""


class SparseCohort(Cohort):
    """One network: computes what the masked dense network computes, from its live neurons alone.

    Weights and biases from which no path leads to the output are never computed with; they have a gradient of 0, and
    an optimizer goes on with them as in the dense network.

    Attributes:
        values: by layer, the weights and then the biases that the masks left, (count,).
    """

    def __init__(self, plan: Plan, network: Network, module: nn.Module) -> None:
        super().__init__()
        self._plan = plan
        self._state = dict(network.state)
        self.values = {owner: nn.Parameter(values) for owner, values in plan.gathered(network.state).items()}
        self._registered = nn.ParameterList(self.values.values())
        module = module.to(network.dtype)
        self._sites = {site: cast(ScaledActivation, module.get_submodule(site)) for site in network.sites}
        self._modules_of_sites = nn.ModuleList(self._sites.values())
        self._compiled = {
            site: operator
            for site, operator in zip(network.sites, network.assignment, strict=True)
            if _is_compilable(operator, network.dtype == torch.float32)
        }
        self._norms = {
            step.operation.owner: cast(nn.BatchNorm2d, module.get_submodule(step.operation.owner))
            for step in plan.steps
            if isinstance(step.operation, Normalisation)
        }
        self._activations = _activations_behind_norms(plan, self._compiled)
        self._normalise = {
            index: Normalise(
                self._norms[step.operation.owner],
                np.asarray(plan.live[index].any(1)),
                step.pixels,
                self._compiled[self._activations[index].site] if index in self._activations else IDENTITY,
            )
            for index, step in enumerate(plan.steps)
            if isinstance(step.operation, Normalisation)
        }
        self._dense = {
            index: cast(nn.Linear | nn.Conv1d | nn.Conv2d, module.get_submodule(step.operation.owner))
            for index, step in enumerate(plan.steps)
            if index in plan.dense and isinstance(step.operation, Affine)
        }
        self.load(0, network.state)
        self._flat = network.specification.rows
        self._levels = levels_of(network)
        self._channels, self._pixels = plan.pixels
        widest = max(int(live.sum()) for live in plan.live)
        self._piece = max(1, PIECE_BYTES // (LANES * self._levels.itemsize * max(1, widest))) * LANES
        last = {source: index for index, step in enumerate(plan.steps) for source in step.inputs}
        self._spent = [[source for source in last if last[source] == index] for index in range(len(plan.steps))]

    def forward(self, images: Tensor) -> Tensor:
        pieces = images.split(self._piece)  # type: ignore[no-untyped-call]
        known = [_known(len(piece), self._levels.dtype) for piece in pieces]
        found: dict[int, Sequence[Tensor]] = {}
        whole = {
            index: self._whole(layer, cast(Affine, self._plan.steps[index].operation).owner)
            for index, layer in self._dense.items()
        }
        parameters = {site: torch.stack(tuple(self._sites[site].parameters())) for site in self._compiled}
        for index, step in enumerate(self._plan.steps):
            match step.operation:
                case Images():
                    found[index] = side_by_side(lambda number: self._read(pieces[number]), len(pieces))
                case Normalisation():
                    found[index] = self._normalised(index, found[step.inputs[0]], known, parameters)
                case _:
                    found[index] = self._values(index, [found[source] for source in step.inputs], whole, parameters)
            for source in self._spent[index]:
                del found[source]
        logits = [each.transpose(1, 2).flatten(0, 1) for each in found[len(self._plan.steps) - 1]]
        return (torch.cat(logits) if len(logits) > 1 else logits[0])[None, : len(images)]

    def _normalised(
        self,
        index: int,
        sources: Sequence[Tensor],
        known: Sequence[Floats],
        parameters: Mapping[str, Tensor],
    ) -> Sequence[Tensor]:
        """The pieces of a batch normalisation's value, and of the activation's that is computed with it."""
        step, activation = self._plan.steps[index], self._activations.get(index)
        values = self.values[cast(Normalisation, step.operation).owner]
        own_parameters = parameters[activation.site] if activation else values.new_ones(2)
        return normalise(self._normalise[index], sources, values, own_parameters, known, self.training)

    def _values(
        self,
        index: int,
        inputs: Sequence[Sequence[Tensor]],
        whole: Mapping[int, Mapping[str, Tensor]],
        parameters: Mapping[str, Tensor],
    ) -> Sequence[Tensor]:
        """The value of a step, a tensor (blocks, live neurons, LANES) for every piece of the batch.

        Args:
            inputs: the pieces of each value that it reads.
            whole: the weights and biases of the layers that compute with all of them.
            parameters: alpha, beta and the operator's own of the sites whose operators are compiled.
        """
        step, (pieces, *others) = self._plan.steps[index], inputs
        match step.operation:
            case Affine() as affine if index in whole:
                return [_densely(self._dense[index], whole[index], affine, piece) for piece in pieces]
            case Affine(owner):
                return apply(self._plan.layers[index], pieces, self.values[owner])
            case MaxPool() | Average():
                return apply(self._plan.layers[index], pieces, NOTHING)
            case Activation() if self._activations.get(step.inputs[0]) is step.operation:
                return pieces
            case Activation(site) if site in parameters:
                frozen = torch.is_grad_enabled() and not parameters[site].requires_grad
                layer = (ActivateFrozen if frozen else Activate)(self._compiled[site])
                return apply(layer, pieces, parameters[site])
            case Activation(site):
                return [self._sites[site](piece) for piece in pieces]
            case Sum():
                return [piece + other for piece, other in zip(pieces, others[0], strict=True)]
            case Same():
                return pieces
        raise TypeError(f"{type(step.operation).__name__} reads no one value")

    def _whole(self, layer: nn.Linear | nn.Conv1d | nn.Conv2d, owner: str) -> dict[str, Tensor]:
        """A layer's weight, zeros included, and its bias."""
        slot = self._plan.slots[owner]
        left, bias = torch.split(self.values[owner], [len(slot.weights), len(slot.biases)])
        weight = torch.zeros_like(layer.weight).flatten().index_put((torch.from_numpy(slot.weights),), left)
        return {"weight": weight.view_as(layer.weight), **({} if layer.bias is None else {"bias": bias})}

    def _read(self, images: Tensor) -> Tensor:
        """The live pixels, normalised."""
        out = empty(-(-len(images) // LANES), len(self._pixels), self._levels.dtype)
        gather(out, self._flat(images).numpy(), self._levels, self._channels, self._pixels)
        return torch.from_numpy(out)

    @property
    def weights(self) -> Sequence[nn.Parameter]:
        return [values for values in self.values.values() if len(values)]

    @property
    def tensors(self) -> Mapping[Tensor, Tensor]:
        return {self.values[owner]: numbers for owner, numbers in self._plan.tensors.items()}

    @property
    def scales(self) -> Sequence[nn.Parameter]:
        return [parameter for activation in self._sites.values() for parameter in activation.parameters()]

    def freeze_scales(self) -> None:
        for activation in self._sites.values():
            activation.freeze_scales()

    def gradients(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By module those of its values, and by name those of the parameters of the sites."""
        values = {owner: values.grad for owner, values in self.values.items() if values.grad is not None}
        parameters = ((site, activation.named_parameters()) for site, activation in self._sites.items())
        named = {f"{site}.{name}": parameter.grad for site, own in parameters for name, parameter in own}
        return values, {name: gradient for name, gradient in named.items() if gradient is not None}

    def state(self, number: int) -> dict[str, Tensor]:  # noqa: ARG002
        values = {owner: values.detach() for owner, values in self.values.items()}
        state = {**self._state, **self._plan.scattered(values, self._state)}
        for site, activation in self._sites.items():
            state |= {f"{site}.{name}": tensor.detach().clone() for name, tensor in activation.state_dict().items()}
        for owner, norm in self._norms.items():
            state |= {f"{owner}.{name}": buffer.clone() for name, buffer in norm.named_buffers()}
        return state

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        self._state = dict(state)
        with torch.no_grad():
            for owner, values in self._plan.gathered(state).items():
                self.values[owner].copy_(values)
        for site, activation in self._sites.items():
            activation.load_state_dict({name: state[f"{site}.{name}"] for name in activation.state_dict()})
        for owner, norm in self._norms.items():
            for name, buffer in norm.named_buffers():
                buffer.copy_(state[f"{owner}.{name}"])


def _is_compilable(operator: str, single: bool) -> bool:
    try:
        compiled(operator, single)
    except NotCompilableError:
        return False
    return True


def _densely(
    layer: nn.Linear | nn.Conv1d | nn.Conv2d, tensors: Mapping[str, Tensor], affine: Affine, source: Tensor
) -> Tensor:
    """The value (blocks, neurons, LANES) of a layer that computes with all weights."""
    images = source.transpose(1, 2).reshape(-1, *affine.taken)
    out: Tensor = functional_call(layer, dict(tensors), (images,))
    return out.reshape(len(source), LANES, -1).transpose(1, 2).contiguous()


def _activations_behind_norms(plan: Plan, compilable: Collection[str]) -> dict[int, Activation]:
    """By index of a batch normalisation, the activation that alone reads it, where that can be compiled."""
    readers: dict[int, list[Operation]] = defaultdict(list)
    for step in plan.steps:
        for source in step.inputs:
            readers[source].append(step.operation)
    return {
        index: operations[0]
        for index, operations in readers.items()
        if isinstance(plan.steps[index].operation, Normalisation)
        and len(operations) == 1
        and isinstance(operations[0], Activation)
        and operations[0].site in compilable
    }


def _known(images: int, dtype: np.dtype[Any]) -> Floats:
    """(blocks, LANES): 1 for every image, 0 in the lanes behind the last."""
    known = np.zeros((-(-images // LANES), LANES), dtype)
    known.ravel()[:images] = 1
    return known
