"""A network executed with every weight, zeros included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from safs_ray.activations import ScaledActivation
from safs_ray.network import Network, load_state
from safs_ray.pruning.masks import prunable_weights
from safs_ray.sparse.cohort import Cohort


class DenseCohort(Cohort):
    """One network, executed by its own module."""

    def __init__(self, network: Network, module: nn.Module, device: torch.device) -> None:
        super().__init__()
        self._network = network
        self._module = module.to(device)
        self._activations = [cast(ScaledActivation, self._module.get_submodule(site)) for site in network.sites]
        sites = tuple(f"{site}." for site in network.sites)
        parameters = self._module.named_parameters()
        self._weights = [parameter for name, parameter in parameters if not name.startswith(sites)]

    def forward(self, images: Tensor) -> Tensor:
        inputs = self._network.specification.normalised(images)
        if inputs.is_floating_point():
            inputs = inputs.to(self._network.dtype)
        logits: Tensor = self._module(inputs)
        return logits[None]

    @property
    def weights(self) -> Sequence[nn.Parameter]:
        return self._weights

    @property
    def scales(self) -> Sequence[nn.Parameter]:
        return [parameter for activation in self._activations for parameter in activation.parameters()]

    @property
    def prunable(self) -> Mapping[str, Tensor]:
        return prunable_weights(self._module)

    def freeze_scales(self) -> None:
        for activation in self._activations:
            activation.freeze_scales()

    def state(self, number: int) -> dict[str, Tensor]:  # noqa: ARG002
        return dict(self._network.after(self._module).state)

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        load_state(self._module, state)
