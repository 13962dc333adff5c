"""The sparse network as a module: live neurons, and one vector of the values of what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from safs_ray.activations import ScaledActivation
from safs_ray.network import Network
from safs_ray.sparse.execution import Executable
from safs_ray.sparse.graph import Activation, Images, Same, Sum
from safs_ray.sparse.kernels import LANES, gather
from safs_ray.sparse.layers import apply, empty
from safs_ray.sparse.plan import Plan
from safs_ray.sparse.tables import indices


class SparseModule(Executable):
    """Computes what the masked dense network computes, from its live neurons alone.

    Weights and biases from which no path leads to the output are not here: they have no gradient and stay as they
    are, where a masked dense training would only decay them.

    Attributes:
        values: the weights and biases that are left, (count,), in the order of the plan's slots.
    """

    def __init__(self, plan: Plan, network: Network) -> None:
        super().__init__()
        self._plan = plan
        self._state = dict(network.state)
        self._places = {
            f"{owner}.{name}": torch.from_numpy(places)
            for owner, slot in plan.slots.items()
            for name, places in (("weight", slot.weights), ("bias", slot.biases))
            if len(places)
        }
        self._sizes = [len(slot) for slot in plan.slots.values()]
        self.values = nn.Parameter(self._gathered(network.state))
        module = network.build().to(self.values.dtype)
        self._sites = {site: cast(ScaledActivation, module.get_submodule(site)) for site in network.sites}
        self._modules_of_sites = nn.ModuleList(self._sites.values())
        self.load(network.state)
        self._levels = network.specification.normalised(_every_level(network.specification.channels))[0, :, 0]
        channel, pixel = np.nonzero(plan.live[0])
        self._channels, self._pixels = indices(channel), indices(channel * plan.steps[0].pixels + pixel)
        last = {source: index for index, step in enumerate(plan.steps) for source in step.inputs}
        self._spent = [[source for source in last if last[source] == index] for index in range(len(plan.steps))]

    def forward(self, images: Tensor) -> Tensor:
        parts = dict(zip(self._plan.slots, torch.split(self.values, self._sizes), strict=True))
        found: dict[int, Tensor] = {}
        for index, step in enumerate(self._plan.steps):
            found[index] = self._value(index, [found[source] for source in step.inputs], parts, images)
            for source in self._spent[index]:
                del found[source]
        return found[index].transpose(1, 2).flatten(0, 1)[: len(images)]

    def _value(self, index: int, inputs: Sequence[Tensor], parts: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The value of a step (blocks, live neurons, LANES)."""
        if index in self._plan.layers:
            owner = getattr(self._plan.steps[index].operation, "owner", None)
            return apply(self._plan.layers[index], inputs[0], parts[owner] if owner else self.values[:0])
        match self._plan.steps[index].operation:
            case Images():
                return self._read(images)
            case Activation(site):
                return cast(Tensor, self._sites[site](inputs[0]))
            case Sum():
                return inputs[0] + inputs[1]
            case Same():
                return inputs[0]
        raise TypeError("a step that nothing does")

    def _read(self, images: Tensor) -> Tensor:
        """The live pixels, normalised."""
        levels = self._levels.to(self.values.dtype).numpy()
        out = empty(-(-len(images) // LANES), len(self._pixels), levels.dtype)
        gather(out, images.reshape(len(images), -1).numpy(), levels, self._channels, self._pixels)
        return torch.from_numpy(out)

    @property
    def weights(self) -> Sequence[nn.Parameter]:
        return [self.values]

    @property
    def activations(self) -> Sequence[ScaledActivation]:
        return list(self._sites.values())

    @property
    def prunable(self) -> Mapping[str, Tensor]:
        return {}

    def state(self) -> dict[str, Tensor]:
        state = {**self._state, **self._scattered(self.values.detach())}
        for site, activation in self._sites.items():
            state |= {f"{site}.{name}": tensor.detach().clone() for name, tensor in activation.state_dict().items()}
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._state = dict(state)
        with torch.no_grad():
            self.values.copy_(self._gathered(state))
        for site, activation in self._sites.items():
            activation.load_state_dict({name: state[f"{site}.{name}"] for name in activation.state_dict()})

    def _gathered(self, state: Mapping[str, Tensor]) -> Tensor:
        """The values of what is left in a network's state."""
        found = [state[name].flatten()[places] for name, places in self._places.items()]
        return torch.cat(found) if found else next(iter(state.values())).new_zeros(0)

    def _scattered(self, values: Tensor) -> dict[str, Tensor]:
        """Copies of the weights and biases of a network's state, with these values in place of what is left."""
        copies = {name: self._state[name].clone() for name in self._places}
        parts = torch.split(values, [len(places) for places in self._places.values()])
        for (name, places), part in zip(self._places.items(), parts, strict=True):
            copies[name].view(-1)[places] = part
        return copies


def _every_level(channels: int) -> Tensor:
    """An image (1, C, 1, 256) that holds every value of a pixel once in each channel."""
    return torch.arange(256, dtype=torch.uint8).expand(1, channels, 1, 256)
