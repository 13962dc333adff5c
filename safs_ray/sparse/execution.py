"""What executes a network: all of its weights, or its nonzeros alone. One function decides."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

import torch
from torch import Tensor, autocast, nn
from torch.nn.functional import cross_entropy

from safs_ray import machine
from safs_ray.activations import ScaledActivation
from safs_ray.config import TYPICAL, Costs, Execution, refusal
from safs_ray.network import Network, load_state
from safs_ray.pruning.masks import prunable_weights


class Learner(nn.Module):
    """What is trained: one network on a device, or several."""

    @property
    @abstractmethod
    def weights(self) -> Sequence[nn.Parameter]:
        """The parameters that are not an activation's."""

    @property
    @abstractmethod
    def scales(self) -> Sequence[nn.Parameter]:
        """The parameters of the activations."""

    @property
    def tensors(self) -> Mapping[Tensor, Tensor]:
        """For parameters that hold several tensors of a network: the number of the tensor that each value is of."""
        return {}

    @property
    @abstractmethod
    def prunable(self) -> Mapping[str, Tensor]:
        """The weights that hold zeros, by name, for a rule to keep: none where only nonzeros are held."""

    @abstractmethod
    def freeze_scales(self) -> None:
        """Learn alpha and beta no more; where they are at 1 they need not be multiplied with either."""


class Wrapper(Learner):
    """The same learner with another face."""

    def __init__(self, inner: Learner) -> None:
        super().__init__()
        self._inner = inner

    @property
    def weights(self) -> Sequence[nn.Parameter]:
        return self._inner.weights

    @property
    def scales(self) -> Sequence[nn.Parameter]:
        return self._inner.scales

    @property
    def tensors(self) -> Mapping[Tensor, Tensor]:
        return self._inner.tensors

    @property
    def prunable(self) -> Mapping[str, Tensor]:
        return self._inner.prunable

    def freeze_scales(self) -> None:
        self._inner.freeze_scales()


class Executable(Learner):
    """A network on a device, trainable: uint8 images (N, C, H, W) to logits (N, classes)."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The network's state, in its own names and shapes, on the CPU; later training does not change it."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave."""

    def team(self) -> Team:
        """This network as a team of one."""
        return Alone(self)


class Team(Learner):
    """Networks of one mask on a device that are trained side by side, each as it would be alone."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Logits (networks, N, classes) of uint8 images (N, C, H, W)."""

    @abstractmethod
    def learn(self, images: Tensor, labels: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
        """The mean cross-entropy of each network, (networks,); its gradients replace those of the parameters.

        Args:
            precision: what layers compute in.
        """

    @abstractmethod
    def state(self, number: int) -> dict[str, Tensor]:
        """The state of a network, as :meth:`Executable.state`."""

    @abstractmethod
    def load(self, number: int, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave."""

    def joined(self, networks: Sequence[Network]) -> Team | None:  # noqa: ARG002
        """A new team of this one's networks and more; None where they cannot be trained side by side."""
        return None


class Alone(Wrapper, Team):
    """A team of one."""

    _inner: Executable

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self._inner(images)
        return logits[None]

    def learn(self, images: Tensor, labels: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
        with autocast(images.device.type, precision, enabled=precision is torch.bfloat16):
            loss = cross_entropy(self._inner(images).float(), labels)
        self.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()[None]

    def state(self, number: int) -> dict[str, Tensor]:  # noqa: ARG002
        return self._inner.state()

    def load(self, number: int, state: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        self._inner.load(state)


class DenseModule(Executable):
    """Computes with every weight, zeros included."""

    def __init__(self, network: Network, module: nn.Module, device: torch.device) -> None:
        super().__init__()
        self._network = network
        self._module = module.to(device)
        self._activations = [cast(ScaledActivation, self._module.get_submodule(site)) for site in network.sites]
        sites = tuple(f"{site}." for site in network.sites)
        parameters = self._module.named_parameters()
        self._weights = [parameter for name, parameter in parameters if not name.startswith(sites)]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self._module(self._network.specification.normalised(images))
        return logits

    @property
    def weights(self) -> Sequence[nn.Parameter]:
        return self._weights

    @property
    def scales(self) -> Sequence[nn.Parameter]:
        return [parameter for activation in self._activations for parameter in activation.parameters()]

    def freeze_scales(self) -> None:
        for activation in self._activations:
            activation.freeze_scales()

    @property
    def prunable(self) -> Mapping[str, Tensor]:
        return prunable_weights(self._module)

    def state(self) -> dict[str, Tensor]:
        return dict(self._network.after(self._module).state)

    def load(self, state: Mapping[str, Tensor]) -> None:
        load_state(self._module, state)


def team(
    networks: Sequence[Network], execution: Execution, device: torch.device, costs: Costs = TYPICAL
) -> Team | None:
    """The module that trains networks side by side; None where they can only be trained one at a time.

    Args:
        networks: of one mask and specification.
        execution, costs: as of :func:`executable`.

    Raises:
        ConfigurationError: as :func:`executable`.
    """
    first = executable(networks[0], execution, device, costs).team()
    return first.joined(networks[1:]) if len(networks) > 1 else first


def executable(network: Network, execution: Execution, device: torch.device, costs: Costs = TYPICAL) -> Executable:
    """The module that trains and evaluates a network.

    Args:
        execution: dense; sparse, for networks with masks; or auto, which is sparse where that is possible and
            expected to be faster, the network and each of its layers. The same choice for the same masks and costs,
            always.
        costs: what auto goes by.

    Raises:
        ConfigurationError: sparse execution was demanded and cannot be.
    """
    module = network.build()
    if device.type == "cpu":
        machine.keep_memory()
    if execution == "dense" or not network.masks or (execution == "auto" and device.type != "cpu"):
        return DenseModule(network, module, device)
    if device.type != "cpu":
        raise refusal("run.execution", execution, f"runs on a CPU, not on {device.type}; allowed there: auto, dense")
    # Here: numba takes half a second to import, in every worker.
    from safs_ray.sparse import plan
    from safs_ray.sparse.fused import FusedModule
    from safs_ray.sparse.graph import UnsupportedError
    from safs_ray.sparse.module import SparseModule
    from safs_ray.sparse.program import is_chain
    from safs_ray.sparse.symbols import NotCompilableError

    try:
        made = plan.make(network, module, costs, nonzeros_only=execution == "sparse")
    except UnsupportedError as reason:
        if execution == "sparse":
            model = network.specification.model
            raise refusal(
                "run.execution", execution, f"cannot be for {model}: {reason}; allowed: auto, dense"
            ) from None
        return DenseModule(network, module, device)
    if execution == "auto" and made.gain(costs) <= 1:
        return DenseModule(network, module, device)
    if is_chain(made):
        with suppress(NotCompilableError):
            return FusedModule(made, network)
    return SparseModule(made, network, module)
