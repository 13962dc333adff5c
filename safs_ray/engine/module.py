"""A network that is only used, as a torch module: inputs to outputs by the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property

import torch
from torch import Tensor, nn

from safs_ray.config import Execution
from safs_ray.engine import costs, lowering, reading
from safs_ray.engine.costs import Cost
from safs_ray.engine.passes import Passes
from safs_ray.engine.program import Program
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.sparse.execution import executable
from safs_ray.sparse.graph import Step, UnsupportedError
from safs_ray.sparse.symbols import NotCompilableError

CPU = torch.device("cpu")


def inference_module(
    network: Network, execution: Execution = "auto", device: torch.device = CPU, threads: int = 1
) -> nn.Module:
    """A network that is only used, as a module in evaluation mode: inputs (N, …) to outputs (N, outputs).

    Inputs are as the data have them, such as uint8 images (N, C, H, W).

    Args:
        execution: "dense" computes with all weights, "sparse" with nonzeros alone, on a CPU; "auto" as is expected to
            be faster for each batch. The engine computes with nonzeros, but for networks that it cannot read.
        device: where torch is to compute.
        threads: that share the channels of a layer, in the engine.

    Raises:
        ConfigurationError: sparse execution was demanded and cannot be.
    """
    module = _computing(network, execution, device, threads)
    # A module that gives values in the units of their targets.
    return RestoringModule(module, network.specification) if network.specification.target_mean else module


def _computing(network: Network, execution: Execution, device: torch.device, threads: int) -> nn.Module:
    """The engine on a CPU, unless all weights are wanted or it cannot read the network; else torch."""
    if execution != "dense" and device.type == "cpu":
        with suppress(UnsupportedError):
            return _fastest(network, execution, threads)
    return CheckingModule(network, execution, device)


class CheckingModule(nn.Module):
    """A network that torch computes, of such inputs alone as it takes: torch would compute something of others, too."""

    def __init__(self, network: Network, execution: Execution, device: torch.device) -> None:
        super().__init__()
        self.module, self._specification = executable(network, execution, device), network.specification
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.module(self._specification.checked(inputs))
        return logits


class RestoringModule(nn.Module):
    """A network whose outputs are brought to the units of the values that it predicts."""

    def __init__(self, module: nn.Module, specification: Specification) -> None:
        super().__init__()
        self.module, self._specification = module, specification

    def forward(self, inputs: Tensor) -> Tensor:
        return self._specification.restored(self.module(inputs))


def _fastest(network: Network, execution: Execution, threads: int) -> nn.Module:
    """The engine, beside other ways where these are expected to be faster for some batches."""
    steps, passes = read(network)
    engine = EngineModule(network, passes, threads)
    others = [_Way(costs.of_torch(network.with_every_name(), steps), lambda: executable(network, "dense", CPU))]
    blocks = costs.of_blocks(passes)
    if execution == "sparse":
        others.clear()
    if blocks and network.masks:
        others.append(_Way(blocks, lambda: executable(network, "sparse", CPU)))
    own = costs.of_engine(passes)
    faster = [each for each in others if not each.cost.always_above(own)]
    return FastestModule([_Way(own, lambda: engine), *faster], network.specification) if faster else engine


def read(network: Network) -> tuple[Sequence[Step], Passes]:
    """The steps of a network, and what the engine does for an image.

    Raises:
        UnsupportedError: the network cannot be computed so.
    """
    if network.dtype != torch.float32:
        raise UnsupportedError(f"its weights are {network.dtype}, not torch.float32")
    if network.specification.kind == "int64":
        raise UnsupportedError("it takes indices")
    module = network.build()
    steps = reading.read(module, network.specification.example())
    return steps, lowering.lower(network.with_every_name(), module, steps)


class EngineModule(nn.Module):
    """Inputs (N, …) to outputs (N, outputs), by nonzero weights alone; without gradients.

    Args:
        passes: of the network, as :func:`read` gives them; found out where they are not given.
        threads: that share the channels of a layer.

    Attributes:
        foreign: the names of what torch does, for the engine lacks it.

    Raises:
        UnsupportedError: the network cannot be computed so.
    """

    def __init__(self, network: Network, passes: Passes | None = None, threads: int = 1) -> None:
        super().__init__()
        passes = passes or read(network)[1]
        try:
            self._program = Program(passes, _levels(network.specification), threads)
        except NotCompilableError as error:
            raise UnsupportedError(str(error)) from error
        self._pixels = network.specification.rows
        self._lock = threading.Lock()
        self.foreign = tuple(each.name for each in passes.foreign)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        pixels = self._pixels(images).contiguous()
        with self._lock:
            return self._program.run(pixels)

    def extra_repr(self) -> str:
        beside = f", by torch: {', '.join(self.foreign)}" if self.foreign else ""
        return f"{self._program.bytes / 1e6:.1f} MB{beside}"


def _levels(specification: Specification) -> Tensor | None:
    """What the bytes of images become; None where inputs are numbers."""
    return specification.levels() if specification.kind == "uint8" else None


class _Way:
    """A way to compute a network, which is made when a batch first goes it."""

    def __init__(self, cost: Cost, make: Callable[[], nn.Module]) -> None:
        self.cost, self._make = cost, make

    @cached_property
    def module(self) -> nn.Module:
        return self._make().eval()


class FastestModule(nn.Module):
    """Inputs (N, …) to outputs (N, outputs), each batch by the way that is expected to be the fastest."""

    def __init__(self, ways: Sequence[_Way], specification: Specification) -> None:
        super().__init__()
        self._ways, self._specification = ways, specification
        self.eval()

    def module_for(self, images: int) -> nn.Module:
        """What computes a batch of so many images."""
        return min(self._ways, key=lambda way: way.cost.of(images)).module

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        inputs = self._specification.checked(images)
        logits: Tensor = self.module_for(len(inputs))(inputs)
        return logits

    def extra_repr(self) -> str:
        return f"1 image: {self.module_for(1)}"
