"""The sparse network as a module: live neurons, and one vector of the values of what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from safs_ray.activations import ScaledActivation
from safs_ray.network import Network
from safs_ray.sparse.activate import Activate, ActivateFrozen
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.fusion import Unit, units
from safs_ray.sparse.graph import Activation, Affine, Average, MaxPool, Normalisation, Same, Sum
from safs_ray.sparse.kernels import gather
from safs_ray.sparse.lanes import LANES, Floats
from safs_ray.sparse.layers import Linear, Pool, apply, empty, side_by_side
from safs_ray.sparse.normalise import Batch, Normalise, normalise
from safs_ray.sparse.operators import compiled
from safs_ray.sparse.plan import Plan
from safs_ray.sparse.program import levels_of
from safs_ray.sparse.symbols import NotCompilableError
from safs_ray.sparse.tails import IDENTITY, Tail

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
        self._units = units(plan, self._compiled)
        self._normalise = {last: self._normalisation(unit) for last, unit in self._units.items()}
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
        within = {index for unit in self._units.values() for index in unit.steps[:-1]}
        self._inputs = {
            index: self._units[index].inputs if index in self._units else step.inputs
            for index, step in enumerate(plan.steps)
            if index not in within
        }
        last = {source: index for index, sources in self._inputs.items() for source in sources}
        self._spent = {index: [source for source in last if last[source] == index] for index in self._inputs}

    def _normalisation(self, unit: Unit) -> Normalise:
        plan, norm = self._plan, self._plan.steps[unit.norm]
        site = None if unit.activation is None else cast(Activation, plan.steps[unit.activation].operation).site
        pool = None if unit.pool is None else cast(Pool, plan.layers[unit.pool])
        windows = None if pool is None else pool.windows[: plan.steps[cast(int, unit.pool)].pixels]
        return Normalise(
            self._norms[cast(Normalisation, norm.operation).owner],
            np.asarray(plan.live[unit.norm].any(1)),
            norm.pixels,
            Tail(
                self._compiled[site] if site else IDENTITY,
                unit.total is not None,
                0 if pool is None else pool.windows.shape[1],
            ),
            windows,
            None if unit.layer is None else cast(Linear, plan.layers[unit.layer]),
        )

    def forward(self, images: Tensor) -> Tensor:
        pieces = images.split(self._piece)  # type: ignore[no-untyped-call]
        counts = [len(piece) for piece in pieces]
        batch = Batch(counts, [_known(count, self._levels.dtype) for count in counts], self.training)
        found: dict[int, Sequence[Tensor]] = {}
        whole = {
            index: self._whole(layer, cast(Affine, self._plan.steps[index].operation).owner)
            for index, layer in self._dense.items()
        }
        parameters = {site: torch.stack(tuple(self._sites[site].parameters())) for site in self._compiled}
        for index, sources in self._inputs.items():
            inputs = [found[source] for source in sources]
            if index in self._units:
                found[index] = self._normalised(index, inputs, batch, parameters)
            elif inputs:
                found[index] = self._values(index, inputs, whole, parameters)
            else:
                found[index] = side_by_side(lambda number: self._read(pieces[number]), len(pieces))
            for source in self._spent[index]:
                del found[source]
        logits = [each.transpose(1, 2).flatten(0, 1) for each in found[len(self._plan.steps) - 1]]
        return (torch.cat(logits) if len(logits) > 1 else logits[0])[None, : len(images)]

    def _normalised(
        self, last: int, inputs: Sequence[Sequence[Tensor]], batch: Batch, parameters: Mapping[str, Tensor]
    ) -> Sequence[Tensor]:
        """The pieces of a unit's value."""
        unit, (pieces, *others) = self._units[last], inputs
        operations = (self._plan.steps[each].operation for each in unit.steps)
        layer, own, scales = NOTHING, NOTHING, torch.ones(2, dtype=pieces[0].dtype)
        for operation in operations:
            match operation:
                case Affine(owner):
                    layer = self.values[owner]
                case Normalisation(owner):
                    own = self.values[owner]
                case Activation(site):
                    scales = parameters[site]
        added = [each for other in others for each in other]
        return normalise(self._normalise[last], pieces, added, (layer, own, scales), batch)

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


def _known(images: int, dtype: np.dtype[Any]) -> Floats:
    """(blocks, LANES): 1 for every image, 0 in the lanes behind the last."""
    known = np.zeros((-(-images // LANES), LANES), dtype)
    known.ravel()[:images] = 1
    return known
