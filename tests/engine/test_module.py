from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safs_ray.engine.module import EngineModule
from safs_ray.operators import OPERATORS
from tests.engine.networks import assert_exact, drawn, images_of, network_of


def classified(*layers: nn.Module) -> nn.Module:
    """Layers, an activation, and what makes logits of it."""
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(4))


def lazy(*layers: nn.Module, size: int = 8) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        module = classified(*layers)
        module(torch.zeros(2, 3, size, size))
        return module

    return build


LAYERS: dict[str, list[nn.Module]] = {
    "3x3": [nn.Conv2d(3, 8, 3)],
    "padded": [nn.Conv2d(3, 8, 3, padding=1)],
    "5x5 of stride 2": [nn.Conv2d(3, 8, 5, stride=2, padding=2)],
    "stride 3, uneven": [nn.Conv2d(3, 8, (3, 2), stride=(3, 1), padding=(1, 0))],
    "dilated": [nn.Conv2d(3, 8, 3, padding=2, dilation=2)],
    "dilated, of stride 2": [nn.Conv2d(3, 8, 3, padding=2, dilation=2, stride=2)],
    "1x7 and 7x1": [nn.Conv2d(3, 4, (1, 7), padding=(0, 3)), nn.Conv2d(4, 8, (7, 1), padding=(3, 0))],
    "groups": [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=4)],
    "depthwise": [nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=6)],
    "depthwise of stride 2": [nn.Conv2d(3, 6, 3, padding=1, groups=3, stride=2)],
    "a pixel padded": [nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1, padding=1)],
    "normalised": [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)],
    "normalised first": [nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1)],
    "largest": [nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)],
    "largest, padded": [nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, stride=2, padding=1)],
    "largest, rounded up": [nn.Conv2d(3, 8, 2), nn.MaxPool2d(2, ceil_mode=True)],
    "largest, dilated": [nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2, stride=3, dilation=2)],
    "mean": [nn.Conv2d(3, 8, 3), nn.AvgPool2d(2)],
    "mean, padded": [nn.Conv2d(3, 8, 3), nn.AvgPool2d(3, stride=2, padding=1)],
    "mean without padding": [nn.Conv2d(3, 8, 3), nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)],
    "mean of uneven windows": [nn.Conv2d(3, 8, 2), nn.AdaptiveAvgPool2d(3)],
    "upsampled": [nn.Conv2d(3, 4, 3, stride=2), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1)],
    "upsampled to a size": [nn.Conv2d(3, 4, 3, stride=2), nn.Upsample(size=(5, 7)), nn.Conv2d(4, 4, 3, padding=1)],
    "activations after poolings": [nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Tanh(), nn.AvgPool2d(2), nn.SELU()],
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_engine_module_computes_layers(layers: list[nn.Module]) -> None:
    network = network_of(lazy(*layers))
    module, images = EngineModule(network), images_of(network)
    assert_exact(module(images), network, images)
    assert not module.foreign


class Block(nn.Module):
    """A residual block that halves the resolution, between layers that see its value twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                                  nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))  # fmt: skip
        self.side = nn.Sequential(nn.Conv2d(6, 8, 1, stride=2), nn.BatchNorm2d(8))
        self.last, self.act = nn.Linear(8, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = F.silu(self.body(x) + self.side(x))
        return self.last((x + torch.relu(x)).mean((2, 3)))


class Dense(nn.Module):
    """Values that are concatenated, of several layers and of one that is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 4, 3, padding=1)
        self.norm, self.last = nn.BatchNorm2d(11), nn.Linear(44, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, F.relu(self.one(x))], 1)
        x = torch.cat([x, self.two(x)], dim=1)
        x = F.max_pool2d(F.hardswish(self.norm(x)), 4)
        return self.last(torch.flatten(x, 1))


class Excited(nn.Module):
    """Squeeze-excitation, with a sigmoid that is no site, and with a hard one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.SiLU()
        self.down, self.up = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1)
        self.hard, self.other = nn.Hardsigmoid(), nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        x = torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))) * x
        x = x * self.hard(self.other(x.mean([2, 3], keepdim=True)))
        return F.adaptive_avg_pool2d(self.last(x), 1).flatten(1)


class GatedByView(nn.Module):
    """A gate that is another view of a value, whose planes lie apart since a padded convolution reads them, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.padded, self.act = nn.Conv2d(4, 4, 1, padding=1), nn.Sigmoid()
        self.one, self.other = nn.Linear(256, 4), nn.Linear(36, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        y = self.act(self.gate(F.adaptive_avg_pool2d(x, 1)))
        return self.one((x * y.view(-1, 4, 1, 1)).flatten(1)) + self.other(torch.flatten(self.padded(y), 1))


class Upsampled(nn.Module):
    """Nearest upsampling by a factor that is taken as it is, and computed anew from the sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2)
        self.ups = nn.ModuleList([nn.Upsample(scale_factor=1.7, recompute_scale_factor=each) for each in (True, None)])
        self.last = nn.Linear(484, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.last((self.ups[0](x) - self.ups[1](x).neg()).flatten(1))


def test_nearest_upsampling_computes_its_factor_anew_where_that_is_asked_for() -> None:
    network = network_of(Upsampled)
    module, images = EngineModule(network), images_of(network)
    assert_exact(module(images), network, images)


@pytest.mark.parametrize("kind", [Block, Dense, Excited, GatedByView])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_engine_module_computes_networks_of_branches(kind: type[nn.Module], sparsity: float) -> None:
    network = network_of(kind, sparsity=sparsity)
    module, images = EngineModule(network), images_of(network)
    assert_exact(module(images), network, images)
    assert not module.foreign


class Beside(nn.Module):
    """What no step does: local response normalisation, a product of planes, a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(12, 4, 3, stride=2, padding=1)
        self.norm, self.last = nn.LocalResponseNorm(3), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x))
        x = torch.cat([self.norm(x), x * x.flip(3)], 1)
        return self.last(torch.flatten(torch.relu(self.two(x)), 1)).softmax(1)


def test_engine_module_leaves_to_torch_what_it_lacks_and_names_it() -> None:
    network = network_of(Beside)
    module, images = EngineModule(network), images_of(network)
    assert_exact(module(images), network, images)
    assert module.foreign == ("norm", "flip", "mul", "softmax")
    assert "by torch: norm, flip, mul, softmax" in repr(module)


@pytest.mark.parametrize("operator", [*OPERATORS, "leaky_relu(0.2)", "gelu_tanh", "prelu", f"{__name__}:squared"])
def test_engine_module_computes_operators(operator: str) -> None:
    network = network_of(Mixed)
    network = drawn(network.assign([operator] * len(network.sites)), 0.5)
    module, images = EngineModule(network), images_of(network)
    assert_exact(module(images), network, images)
    assert not module.foreign


def squared(z: Tensor, shift: float = 0.5) -> Tensor:
    """A user's operator with a parameter."""
    return (z - shift) ** 2 * torch.where(z > 0, 1.0, 0.125)


def by_arcs(z: Tensor) -> Tensor:
    """A user's operator that does what has no rule."""
    return torch.atan(z)


class Mixed(nn.Module):
    """A site of planes, one of small planes, one of features that are more than a vector and of no whole number."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 7, 3, padding=1), nn.Conv2d(7, 6, 3, stride=3)
        self.three, self.last = nn.Linear(24, 37), nn.Linear(37, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.two(torch.relu(self.one(x))))
        return self.last(torch.relu(self.three(torch.flatten(x, 1))))


def test_engine_module_leaves_an_operator_without_a_rule_to_torch() -> None:
    network = network_of(Mixed)
    network = drawn(network.assign(["relu", f"{__name__}:by_arcs", f"{__name__}:by_arcs"]), 0.5)
    module, images = EngineModule(network), images_of(network)
    assert_exact(module(images), network, images)
    assert module.foreign == ("relu_1", "relu_2")


class Sloped(nn.Module):
    """PReLU with a slope for each channel, of planes and of features."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 7, 3), nn.Linear(63, 37), nn.Linear(37, 4)
        self.slopes, self.others = nn.PReLU(7), nn.PReLU(37)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.slopes(self.one(x)), 2)
        return self.last(self.others(self.two(torch.flatten(x, 1))))


@pytest.mark.parametrize("exclude", [(), ("slopes",)])
def test_engine_module_computes_slopes_of_channels(exclude: tuple[str, ...]) -> None:
    network = network_of(Sloped, exclude=exclude)
    assert len(network.sites) == 2 - len(exclude)
    module, images = EngineModule(network), images_of(network)
    assert_exact(module(images), network, images)


def test_engine_module_computes_groups_of_channels() -> None:
    network = network_of(Mixed).grouped(3)
    network = drawn(network.assign(["relu", "swish", "tanh", "cos", "selu", "relu6", "mish", "gelu", "srs"]), 0.5)
    module, images = EngineModule(network), images_of(network)
    assert_exact(module(images), network, images)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_engine_module_gives_the_same_bits_every_time_and_on_any_threads(threads: int) -> None:
    network = network_of(Block)
    images = images_of(network, 20)
    alone = EngineModule(network)(images)
    module = EngineModule(network, threads=threads)
    assert all(torch.equal(module(images), alone) for _ in range(5))
    assert torch.equal(torch.cat([module(image[None]) for image in images]), alone)


def test_engine_module_takes_any_batch_of_bytes() -> None:
    network = network_of(Block)
    module, images = EngineModule(network), images_of(network, 6)
    logits = module(images)
    assert module(images[:0]).shape == (0, 4)
    assert torch.equal(module(images[::2]), logits[::2])
    assert torch.equal(module(images.to(memory_format=torch.channels_last)), logits)
    assert not logits.requires_grad


def test_engine_module_refuses_other_images() -> None:
    module = EngineModule(network_of(Block))
    for images in (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9, dtype=torch.uint8), torch.zeros(3, 8, 8).byte()):
        with pytest.raises(ValueError, match=r"images must be uint8 \(N, 3, 8, 8\), not torch\.\w+ \("):
            module(images)


def test_engine_module_is_used_by_threads_of_its_user_one_after_the_other() -> None:
    network = network_of(Block)
    module, images = EngineModule(network), images_of(network, 40)
    expected = module(images)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: module(image[None]), images))
    assert torch.equal(torch.cat(found), expected)


def test_engine_modules_of_several_threads_run_side_by_side() -> None:
    """Each waits for threads of its own: in a pool that all share, parts would wait for others that have no thread."""
    network = network_of(Block)
    modules, images = [EngineModule(network, threads=3) for _ in range(4)], images_of(network, 2)
    expected = modules[0](images)
    with ThreadPoolExecutor(4) as pool:
        for found in [pool.submit(lambda own: [own(images) for _ in range(50)], module) for module in modules]:
            assert all(torch.equal(each, expected) for each in found.result(timeout=60))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
@pytest.mark.filterwarnings("ignore:This process")
def test_engine_module_of_several_threads_runs_in_a_fork() -> None:
    network = network_of(Block)
    module, images = EngineModule(network, threads=2), images_of(network, 2)
    expected = module(images)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(module(images), expected) else 1)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert (done, status) == (child, 0)
    assert torch.equal(module(images), expected)


def test_dropout_of_nothing_is_no_step_that_the_engine_lacks() -> None:
    kinds = [nn.Dropout(0.0), nn.Dropout2d(0.0), nn.AlphaDropout(0.0), nn.FeatureAlphaDropout(0.0)]
    network = network_of(lazy(nn.Conv2d(3, 4, 3), *kinds))
    module, images = EngineModule(network), images_of(network)
    assert module.foreign == ()
    assert_exact(module(images), network, images)


def test_engine_module_keeps_what_is_nonzero_alone() -> None:
    counts = [network_of(Mixed, sparsity=sparsity) for sparsity in (0.2, 0.8)]
    less = counts[0].nonzero_weights - counts[1].nonzero_weights
    sizes = [EngineModule(network)._program.bytes for network in counts]
    assert sizes[0] - sizes[1] >= 6 * less  # a weight of four bytes and an index of two
