from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from safs_ray import export
from safs_ray.config import ConfigurationError
from safs_ray.export import formats
from safs_ray.export.slim import DeployedNetwork
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.operators import OPERATORS
from safs_ray.storage import Folder

RANGES = Specification("every", (3, 16, 16), 26 * 3 * 256, (0.5, 0.5, 0.5), (0.5, 0.05, 5e-5))
"""Images of which each channel holds all levels; normalised they span ±1, ±10 and ±10,000."""


class Every(nn.Module):
    """Every operator of the table on the same images, side by side."""

    def __init__(self) -> None:
        super().__init__()
        for name in OPERATORS:
            self.add_module(name, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([site(x).flatten(1) for site in self.children()], dim=1)


@pytest.fixture(scope="module")
def every() -> Iterator[Network]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "every", Architecture(lambda _: Every()))
        network = Network.initial(RANGES, 0).assign(list(OPERATORS))
        scales = {"tanh.alpha": torch.tensor(0.5), "tanh.beta": torch.tensor(-2.0)}
        yield replace(network, state={**network.state, **scales})


@pytest.fixture(scope="module")
def levels() -> Tensor:
    return torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(3, 3, 1, 1)


@pytest.fixture(scope="module")
def expected(every: Network, levels: Tensor) -> Tensor:
    return DeployedNetwork(every.build(), RANGES)(levels).unflatten(1, (26, 3 * 256))


@pytest.fixture(scope="module")
def model(every: Network) -> onnx.ModelProto:
    return onnx.load_from_string(formats.find("onnx").write(every)[0]["network.onnx"])


@pytest.fixture(scope="module")
def computed(model: onnx.ModelProto, levels: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": levels.numpy()})
    return found.reshape(len(levels), 26, -1)


@pytest.mark.parametrize("index", range(26), ids=list(OPERATORS))
def test_onnx_runtime_computes_every_operator(computed: np.ndarray, expected: Tensor, index: int) -> None:
    np.testing.assert_allclose(computed[:, index], expected[:, index], rtol=2e-5, atol=1e-5)


LARGE = (-100.0, -30.0, 30.0, 100.0, 1e4)
"""Where the logarithm of a sigmoid, and what takes exponentials, leave the numbers that float32 has."""


@pytest.fixture(scope="module")
def at_large_inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensor, Tensor]:
    """(26, 5): every operator at the large inputs, of a file that was exported, and as torch computes it in float64.

    A white pixel, 1 after its division by 255, becomes (1 - mean) / deviation, another value in every channel.
    """
    mean = tuple(2.0 if value < 0 else 0.0 for value in LARGE)
    specification = Specification("side by side", (5, 1, 1), 26 * 5, mean, tuple(1 / abs(value) for value in LARGE))
    folder = Folder.at(tmp_path_factory.mktemp("large"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "side by side", Architecture(lambda _: Every()))
        network = Network.initial(specification, 0).assign(list(OPERATORS))
        export.write(network, "onnx", folder)
        expected = network.build().double()(torch.tensor(LARGE).double().reshape(1, 5, 1, 1))
    session = onnxruntime.InferenceSession(f"{folder}/network.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": np.full((1, 5, 1, 1), 255, np.uint8)})
    return torch.from_numpy(found).reshape(26, 5), expected.detach().reshape(26, 5)


@pytest.mark.parametrize("index", range(26), ids=list(OPERATORS))
def test_onnx_runtime_computes_every_operator_of_large_inputs(
    at_large_inputs: tuple[Tensor, Tensor], index: int
) -> None:
    found, expected = (each[index] for each in at_large_inputs)
    assert found.isfinite().all()
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=1e-5)


def test_onnx_runtime_computes_no_infinity_of_logsigmoid(at_large_inputs: tuple[Tensor, Tensor]) -> None:
    found = at_large_inputs[0][list(OPERATORS).index("logsigmoid")]
    assert found.tolist() == pytest.approx([-100, -30, 0, 0, 0], abs=1e-5)


def test_only_standard_operations_are_used(model: onnx.ModelProto) -> None:
    assert {node.domain for node in model.graph.node} == {""}
    assert [(each.domain, each.version <= 20) for each in model.opset_import] == [("", True)]
    assert not model.functions


def test_an_onnx_file_says_what_it_takes_and_nothing_of_this_machine(model: onnx.ModelProto) -> None:
    (taken,), (given,) = model.graph.input, model.graph.output
    assert taken.name == "images"
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [each.dim_param or each.dim_value for each in taken.type.tensor_type.shape.dim] == ["batch", 3, 16, 16]
    assert given.name == "logits"
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata["input"].startswith("images: uint8 (N, 3, 16, 16), pixels from 0 to 255")
    assert str(Path(__file__).parent.parent.parent).encode() not in model.SerializeToString()


@pytest.fixture
def network() -> Network:
    network = Network.initial(Specification("mlp", (1, 8, 8), 10, (0.3,), (0.4,)), 0).assign(["swish", "srs"])
    masks = {name: weight.abs() > 0.05 for name, weight in network.prunable().items()}
    masks["fc3.weight"][:, 10:] = False
    return network.masked(masks)


def test_torch_alone_runs_its_file(network: Network, tmp_path: Path) -> None:
    files, note = formats.find("torch").write(network)
    content = files["network.pt2"]
    (tmp_path / "network.pt2").write_bytes(content)
    assert note.startswith("cut the channels of")
    assert str(Path(__file__).parent.parent.parent).encode() not in content
    code = """
import sys
sys.modules["safs_ray"] = None
import torch
extra = {"input.txt": ""}
module = torch.export.load("network.pt2", extra_files=extra).module()
print(extra["input.txt"])
images = torch.load("images.pt")
torch.save([module(images[:count]) for count in (1, 5)], "logits.pt")
"""
    images = torch.arange(5 * 64).remainder(256).to(torch.uint8).reshape(5, 1, 8, 8)
    torch.save(images, tmp_path / "images.pt")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("images: uint8 (N, 1, 8, 8)")
    one, five = torch.load(tmp_path / "logits.pt")
    logits = DeployedNetwork(network.build(), network.specification)(images)
    torch.testing.assert_close(five, logits)
    torch.testing.assert_close(one, logits[:1])


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        formats.find("tflite")
    assert str(refused.value) == "format=tflite: allowed: safetensors, onnx, torch, c"


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigurationError) as refused:
        formats.find("onnx")
    needs = "needs the packages onnx, onnxscript, onnxruntime; pip install 'safs_ray[export]'"
    assert str(refused.value) == f"format=onnx: {needs}"
