from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from safs_ray import export
from safs_ray.config import ConfigurationError
from safs_ray.export import formats
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.storage import Folder


class Choosing(nn.Module):
    """What it computes depends on its values, which no exporter follows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(16, 2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x.flatten(1))
        return self.act(x) if x.sum() > 0 else x


@pytest.fixture
def choosing(monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setitem(ARCHITECTURES, "choosing", Architecture(lambda _: Choosing()))
    return Network.initial(Specification("choosing", (1, 4, 4), 2, (0.5,), (0.5,)), 0)


def test_a_network_that_a_format_cannot_hold_is_told_in_one_line(choosing: Network, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^format=torch: cannot hold this choosing \(\w+: ") as refused:
        export.write(choosing, "torch", Folder.at(tmp_path))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())
    export.write(choosing, "safetensors", Folder.at(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["network.safetensors"]


def signed_zeros(content: bytes, name: str) -> int:
    """How many tensors of a file hold a zero with a sign."""
    match name:
        case "safetensors":
            tensors = list(safetensors.torch.load(content).values())
        case "torch":
            tensors = list(torch.export.load(io.BytesIO(content)).state_dict.values())
        case "c":
            return content.count(b"-0.0f")
        case _:
            graph = onnx.load_from_string(content).graph
            values = [
                sparse.sparse_tensor.values for node in graph.node for sparse in node.attribute if sparse.type == 11
            ]
            stored = [*graph.initializer, *values]
            tensors = [torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in stored]
    assert sum(tensor.is_floating_point() for tensor in tensors) >= 4
    return sum(bool((torch.signbit(each) & (each == 0)).any()) for each in tensors if each.is_floating_point())


@pytest.mark.parametrize("name", formats.FORMATS)
def test_no_zero_is_written_with_a_sign_where_a_scale_is_negative(name: str, tmp_path: Path) -> None:
    dense = Network.initial(Specification("mlp", (1, 4, 4), 3, (0.5,), (0.5,)), 0).assign(["tanh", "tanh"])
    scales = {"act1.alpha": torch.tensor(-1.5), "act1.beta": torch.tensor(-0.5), "act2.beta": torch.tensor(-2.0)}
    weights = {name: torch.where(weight.abs() > 0.1, weight, 0) for name, weight in dense.prunable().items()}
    zeroed = replace(dense, state={**dense.state, **scales, **weights, "fc2.bias": torch.zeros(100)})
    masked = replace(zeroed, masks={name: weight != 0 for name, weight in weights.items()})
    for network in (zeroed, masked):
        export.write(network, name, Folder.at(tmp_path))
        assert signed_zeros((tmp_path / formats.FORMATS[name].file).read_bytes(), name) == 0


def test_a_file_that_computes_something_else_is_not_written(
    choosing: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = formats.FORMATS["safetensors"]
    other = Network.initial(choosing.specification, 1)
    monkeypatch.setitem(
        formats.FORMATS,
        "wrong",
        formats.Format(wrong.file, (), lambda _: wrong.write(other), wrong.runtimes, wrong.usage),
    )
    with pytest.raises(ConfigurationError, match=r"^format=wrong: computes logits that differ by .* was written$"):
        export.write(choosing, "wrong", Folder.at(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_convolutional_network_goes_to_onnx_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: Specification) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128, 20), nn.ReLU(), nn.Linear(20, 4),
        )  # fmt: skip

    monkeypatch.setitem(ARCHITECTURES, "small", Architecture(build))
    network = Network.initial(Specification("small", (3, 8, 8), 4, (0.5,) * 3, (0.5,) * 3), 0).assign(
        ["symlog", "acon"]
    )
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in network.prunable().items()}
    masks["5.weight"][:, :64] = False
    masks["7.weight"][:, ::2] = False
    done = export.write(network.masked(masks), "onnx", Folder.at(tmp_path))
    assert done.notes[-1] == "cut the channels of 0 from 8 to 4, 5 from 20 to 10: 46.1 % of the multiply-adds are left"
    assert done.size == (tmp_path / "network.onnx").stat().st_size
    assert done.difference < 1e-5 < done.largest
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    images = torch.full((3, 3, 8, 8), 77, dtype=torch.uint8)
    (logits,) = session.run(None, {"images": images.numpy()})
    module = network.masked(masks).build().eval()
    torch.testing.assert_close(
        torch.from_numpy(logits), module(network.specification.normalised(images)).detach(), rtol=1e-4, atol=1e-5
    )
