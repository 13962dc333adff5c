"""Small networks that the engine's tests compute, sparse, with weights and statistics that let every path be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network


def network_of(
    module: Callable[[], nn.Module],
    channels: int = 3,
    size: int = 8,
    sparsity: float = 0.5,
    seed: int = 0,
    exclude: tuple[str, ...] = (),
) -> Network:
    """A network of a module (N, channels, size, size) to logits, whose weights were drawn and pruned at random."""
    logits = module().eval()(torch.zeros(2, channels, size, size)).shape[1]
    mean, deviation = (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels]
    ARCHITECTURES["under test"] = Architecture(lambda _: module())
    specification = Specification("under test", (channels, size, size), logits, mean, deviation, exclude)
    return drawn(Network.initial(specification, seed), sparsity, seed)


def drawn(network: Network, sparsity: float, seed: int = 0) -> Network:
    """A network with other weights, statistics and scales, all of the same size wherever they are, and masks."""
    draws = torch.Generator().manual_seed(seed)
    state = {name: _drawn(name, tensor, draws) for name, tensor in network.state.items()}
    masks = {name: torch.rand(weight.shape, generator=draws) >= sparsity for name, weight in network.prunable().items()}
    return replace(network, state=state).masked(masks)


def _drawn(name: str, tensor: Tensor, draws: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    if name.endswith("running_var"):
        return 0.5 + torch.rand(tensor.shape, generator=draws)
    if tensor.dim() > 1:
        return torch.randn(tensor.shape, generator=draws) * (2 / tensor[0].numel()) ** 0.5
    if ".internal." in name:
        return tensor + 0.1 * torch.rand(tensor.shape, generator=draws)
    return 0.5 + torch.rand(tensor.shape, generator=draws)


def images_of(network: Network, count: int = 3, seed: int = 0) -> Tensor:
    shape = network.specification.example(count).shape
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def exact(network: Network, images: Tensor) -> Tensor:
    """The logits of the masked dense network in double precision."""
    with torch.no_grad():
        logits: Tensor = network.build().eval().double()(network.specification.normalised(images).double())
    return logits


def assert_exact(found: Tensor, network: Network, images: Tensor) -> None:
    """Logits are the network's, within rounding of single precision."""
    expected = exact(network, images)
    assert found.shape == expected.shape
    scale = expected.abs().max().item()
    assert scale > 1e-3, "the network says nothing"
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-5 * scale)
