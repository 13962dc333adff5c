"""Networks of torchvision and timm: sites, masks, executions and exports against the modules as they come."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from safs_ray import export
from safs_ray.config import ConfigurationError, PruningSection
from safs_ray.dropout import WithoutDropout, switch_off
from safs_ray.export import formats
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.pruning.allocation import layer
from safs_ray.pruning.structure import least_share, select
from safs_ray.sparse.compact import cut
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import executable
from safs_ray.storage import Folder

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def torchvision(name: str, *arguments: Any, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(importlib.import_module("torchvision.models"), name)(*arguments, num_classes=10, **settings)


def of_timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: importlib.import_module("timm").create_model(name, num_classes=10, **settings)


NETWORKS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "alexnet": (64, torchvision("alexnet")),
    "vgg11_bn": (32, torchvision("vgg11_bn")),
    "resnet18": (32, torchvision("resnet18")),
    "resnet50": (32, torchvision("resnet50")),
    "resnext50_32x4d": (32, torchvision("resnext50_32x4d")),
    "densenet121": (32, torchvision("densenet121")),
    "squeezenet1_1": (64, torchvision("squeezenet1_1")),
    "mobilenet_v2": (32, torchvision("mobilenet_v2")),
    "mobilenet_v3_small": (32, torchvision("mobilenet_v3_small")),
    "mnasnet0_5": (32, torchvision("mnasnet0_5")),
    "shufflenet_v2_x0_5": (32, torchvision("shufflenet_v2_x0_5")),
    "efficientnet_b0": (32, torchvision("efficientnet_b0")),
    "regnet_y_400mf": (32, torchvision("regnet_y_400mf")),
    "convnext_tiny": (32, torchvision("convnext_tiny")),
    "swin_t": (32, torchvision("swin_t")),
    "vit": (32, torchvision("VisionTransformer", 32, 8, 2, 4, 64, 128, dropout=0.1, attention_dropout=0.1)),
    "googlenet": (32, torchvision("googlenet", aux_logits=False, init_weights=False)),
    "timm resnet18": (32, of_timm("resnet18")),
    "timm convnext_atto": (32, of_timm("convnext_atto", drop_path_rate=0.1)),
    "timm vit_tiny": (32, of_timm("vit_tiny_patch16_224", img_size=32, drop_rate=0.1)),
    "timm mobilenetv3_small_050": (32, of_timm("mobilenetv3_small_050")),
    "timm tf_efficientnet_lite0": (32, of_timm("tf_efficientnet_lite0")),
    "timm regnetx_002": (32, of_timm("regnetx_002")),
    "timm mixer_s16": (32, of_timm("mixer_s16_224", img_size=32)),
    "timm deit_tiny": (32, of_timm("deit_tiny_patch16_224", img_size=32)),
    "timm ghostnet_050": (32, of_timm("ghostnet_050")),
    "timm repvgg_a0": (32, of_timm("repvgg_a0")),
    "timm rexnet_100": (32, of_timm("rexnet_100")),
    "timm poolformer_s12": (32, of_timm("poolformer_s12")),
}

ACTIVATIONS = {"relu", "relu6", "hardswish", "silu", "gelu", "elu", "leaky_relu", "hardtanh", "mish", "tanh"}


class Counting(TorchFunctionMode):
    """Counts calls of activations; gates are left out by leaving out sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(
        self, function: Any, _types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "").strip("_")
        if name in ACTIVATIONS:
            self.calls[name] += 1
        return function(*arguments, **(named or {}))


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Network:
    size, make = NETWORKS[request.param]

    def build(_: Specification) -> nn.Module:
        module = make()
        switch_off(module)
        return module

    monkeypatch.setitem(ARCHITECTURES, "zoo", Architecture(build))
    return Network.initial(Specification("zoo", (3, size, size), 10, (0.5,) * 3, (0.25,) * 3), seed=0)


def masked(network: Network) -> Network:
    return network.masked(layer({name: weight.abs() for name, weight in network.prunable().items()}, 0.9))


def plain(network: Network) -> nn.Module:
    """The module as it comes, with the network's weights."""
    module = ARCHITECTURES["zoo"].build(network.specification)
    state = module.state_dict()
    assert set(state) >= {name for name in network.state if not name.endswith((".alpha", ".beta"))}
    state.update({name: network.state[name] for name in state if name in network.state})
    module.load_state_dict(state)
    return module.eval()


@torch.no_grad()
def test_sites_are_what_runs(network: Network) -> None:
    counting = Counting()
    with counting:
        plain(network)(torch.rand(network.specification.example().shape))
    assert len(network.sites) == counting.calls.total()
    assert network.survey.reached == 10


@torch.no_grad()
def test_executions_compute_what_the_masked_module_does(network: Network) -> None:
    pruned = masked(network)
    images = torch.randint(0, 256, pruned.specification.example(4).shape, dtype=torch.uint8)
    with WithoutDropout():
        expected = plain(pruned)(pruned.specification.normalised(images))
    tolerance = 1e-4 * expected.abs().max().item()
    dense = executable(pruned, "dense", CPU).eval()(images)
    torch.testing.assert_close(dense, expected, rtol=1e-4, atol=tolerance)
    automatic = executable(pruned, "auto", CPU).eval()
    if not isinstance(automatic.cohort, DenseCohort):
        torch.testing.assert_close(automatic(images), expected, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_exports_compute_what_the_network_does(network: Network, name: str, tmp_path: Path) -> None:
    written = export.write(masked(network), name, Folder.at(tmp_path))
    assert written.difference <= export.TOLERANCE * written.largest


@torch.no_grad()
def test_networks_without_their_pruned_channels_compute_the_same(network: Network) -> None:
    try:
        coupling = network.coupling
    except ConfigurationError:
        pytest.skip("torch.fx does not trace it")
    section = PruningSection(macs=0.5)
    masks = select({name: weight.abs() for name, weight in network.prunable().items()}, 0.5, section, {}, network)
    pruned = network.masked(masks)
    module, _, sizes, share = cut(pruned)
    assert sizes
    whole = coupling.multiply_adds({name: torch.ones_like(mask) for name, mask in masks.items()})
    assert share <= max(0.5, least_share(coupling, masks)), "attention stays whole"
    assert share == pytest.approx(coupling.multiply_adds(masks) / whole)
    images = torch.rand(pruned.specification.example(4).shape, dtype=torch.float64)
    expected = pruned.build().eval().double()(images)
    torch.testing.assert_close(module.double()(images), expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@torch.no_grad()
def test_networks_without_half_of_their_heads_compute_the_same(network: Network) -> None:
    try:
        attentions = network.heads.attentions
    except ConfigurationError:
        pytest.skip("torch.fx does not trace it")
    if not attentions:
        pytest.skip("no attention is known in it")
    section = PruningSection(structure="heads", sparsity=0.5)
    masks = select({name: weight.abs() for name, weight in network.prunable().items()}, 0.5, section, {}, network)
    pruned = network.masked(masks)
    module, _, sizes, share = cut(pruned)
    assert sizes
    assert 0.5 < share < 1
    images = torch.rand(pruned.specification.example(4).shape, dtype=torch.float64)
    expected = pruned.build().eval().double()(images)
    torch.testing.assert_close(module.double()(images), expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())
