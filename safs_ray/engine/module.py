"""A network that is only used, as a torch module: images to logits by the engine."""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

from safs_ray.engine import lowering, reading
from safs_ray.engine.passes import Passes
from safs_ray.engine.program import Program
from safs_ray.network import Network
from safs_ray.sparse.graph import UnsupportedError
from safs_ray.sparse.symbols import NotCompilableError


def passes(network: Network) -> Passes:
    """What the engine does for an image.

    Raises:
        UnsupportedError: the network cannot be computed so.
    """
    if network.dtype != torch.float32:
        raise UnsupportedError(f"its weights are {network.dtype}, not torch.float32")
    module = network.build()
    return lowering.lower(network, module, reading.read(module, network.specification.example()))


class EngineModule(nn.Module):
    """uint8 images (N, C, H, W) to logits (N, classes), by nonzero weights alone; without gradients.

    Args:
        threads: that share the channels of a layer.

    Raises:
        UnsupportedError: the network cannot be computed so.
    """

    def __init__(self, network: Network, threads: int = 1) -> None:
        super().__init__()
        found = passes(network)
        try:
            self._program = Program(found, network.specification.levels(), threads)
        except NotCompilableError as error:
            raise UnsupportedError(str(error)) from error
        self._pixels = network.specification.pixels
        self._lock = threading.Lock()
        self.foreign = tuple(each.name for each in found.foreign)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        pixels = self._pixels(images).contiguous()
        with self._lock:
            return self._program.run(pixels)

    def extra_repr(self) -> str:
        beside = f", by torch: {', '.join(self.foreign)}" if self.foreign else ""
        return f"{self._program.bytes / 1e6:.1f} MB{beside}"
