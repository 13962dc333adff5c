from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from safs_ray import export
from safs_ray.config import ConfigurationError
from safs_ray.export import formats
from safs_ray.export.__main__ import main
from safs_ray.export.slim import DeployedNetwork
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.storage import Folder


@pytest.fixture(scope="module")
def network() -> Network:
    network = Network.initial(Specification("lenet5", (1, 28, 28), 10, (0.3,), (0.4,)), 0)
    draws = torch.Generator().manual_seed(0)
    masks = {name: torch.rand(each.shape, generator=draws) < 0.1 for name, each in network.prunable().items()}
    return network.masked(masks)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.arange(3 * 784).remainder(251).to(torch.uint8).reshape(3, 1, 28, 28)


@pytest.fixture(scope="module")
def written(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("onnx")
    export.write(network, "onnx", Folder.at(place / "sparse"))
    export.write(network, "onnx", Folder.at(place / "dense"), dense_weights=True)
    return place


def constants(model: onnx.ModelProto) -> dict[str, onnx.SparseTensorProto]:
    found = {node.output[0]: node.attribute[0] for node in model.graph.node if node.op_type == "Constant"}
    return {name: each.sparse_tensor for name, each in found.items() if each.name == "sparse_value"}


def test_an_onnx_file_holds_nonzeros_and_a_place_for_each(network: Network, written: Path) -> None:
    sparse, dense = (onnx.load(written / kind / "network.onnx") for kind in ("sparse", "dense"))
    assert not constants(dense)
    found = constants(sparse)
    whole = {each.name: onnx.numpy_helper.to_array(each) for each in dense.graph.initializer}
    assert len(found) == 5
    assert {each.name for each in sparse.graph.initializer} == set(whole) - set(found)
    for name, stored in found.items():
        array = np.zeros(list(stored.dims), np.float32)
        array.ravel()[onnx.numpy_helper.to_array(stored.indices)] = onnx.numpy_helper.to_array(stored.values)
        np.testing.assert_array_equal(array, whole[name])
        assert np.all(onnx.numpy_helper.to_array(stored.values) != 0)
    onnx.checker.check_model(sparse, full_check=True)
    small, large = ((written / kind / "network.onnx").stat().st_size for kind in ("sparse", "dense"))
    assert small < 12 * network.nonzero_weights + 25_000 < large


def test_onnx_runtime_computes_from_nonzeros(network: Network, written: Path, images: Tensor) -> None:
    expected = DeployedNetwork(network.build(), network.specification)(images).numpy()
    for kind in ("sparse", "dense"):
        session = onnxruntime.InferenceSession(written / kind / "network.onnx")
        (logits,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_openvino_computes_from_nonzeros(network: Network, written: Path, images: Tensor) -> None:
    pytest.importorskip("openvino")
    expected = DeployedNetwork(network.build(), network.specification)(images)
    predict = (
        formats.FORMATS["onnx"].runtimes[1].load({"network.onnx": (written / "sparse" / "network.onnx").read_bytes()})
    )
    torch.testing.assert_close(predict(images), expected, rtol=1e-4, atol=1e-5)


def test_a_tensor_of_few_zeros_stays_dense(written: Path) -> None:
    names = {each.name for each in onnx.load(written / "sparse" / "network.onnx").graph.initializer}
    assert any(name.endswith("bias") for name in names)


def test_dense_weights_are_refused_for_other_formats(
    run_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"^format=torch: has no dense weights; allowed with them: onnx$"):
        formats.find("torch", dense_weights=True)
    assert main([str(run_folder), "--dense-weights", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: format=safetensors: has no dense weights")


def test_every_program_that_is_installed_is_timed(network: Network, tmp_path: Path) -> None:
    done = export.write(network, "onnx", Folder.at(tmp_path))
    installed = [each.name for each in formats.FORMATS["onnx"].runtimes if each.is_installed()]
    assert [each.runtime for each in done.trials] == installed
    assert installed[0] == "ONNX Runtime"
    assert all(each.load > 0 and each.image > 0 for each in done.trials)
