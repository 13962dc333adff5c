from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from safs_ray.config import ConfigurationError
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.pruning.allocation import layer
from safs_ray.storage import DamagedError, Folder


@pytest.fixture
def specification() -> Specification:
    return Specification("lenet5", (1, 28, 28), 10, (0.1,), (0.3,))


@pytest.fixture
def network(specification: Specification) -> Network:
    return Network.initial(specification, seed=0)


@pytest.fixture
def sparse(network: Network) -> Network:
    masks = layer({name: weight.abs() for name, weight in network.prunable().items()}, 0.99)
    return network.masked(masks).assign(["acon", "srs", "tanh", "relu"])


def test_initial_network_has_the_architectures_own_activations(network: Network) -> None:
    assert network.sites == ("act1", "act2", "act3", "act4")
    assert network.assignment == ("relu",) * 4
    assert network.sparsity == 0
    assert network.nonzero_weights == network.prunable_count == 44_190


def test_masking_zeroes_weights_and_counts_what_is_left(sparse: Network) -> None:
    assert sparse.nonzero_weights == 442
    assert sparse.sparsity == pytest.approx(1 - 442 / 44_190)
    for name, mask in sparse.masks.items():
        assert torch.equal(sparse.state[name] != 0, mask)


def test_assigning_keeps_weights_and_resets_activations(network: Network) -> None:
    scaled = network.assign(["tanh"] * 4)
    changed = Network(
        scaled.specification,
        scaled.sites,
        scaled.assignment,
        {**scaled.state, "act1.alpha": torch.tensor(2.0)},
        {},
    )
    again = changed.assign(["acon", "relu", "relu", "relu"])
    assert again.state["act1.alpha"] == 1
    assert again.state["act1.internal.p1"].item() == pytest.approx(1.2)
    assert torch.equal(again.state["conv1.weight"], network.state["conv1.weight"])
    assert changed.state["act1.alpha"] == 2, "a network is never changed in place"


def test_activations_are_told_by_site(sparse: Network) -> None:
    assert sparse.activations()["act2"] == {"operator": "srs", "alpha": 1.0, "beta": 1.0}


def test_built_module_computes_what_was_saved(sparse: Network, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "network")
    sparse.save(folder)
    loaded = Network.load(folder)
    images = torch.randn(3, 1, 28, 28)
    assert torch.equal(loaded.build()(images), sparse.build()(images))
    assert loaded.fingerprint == sparse.fingerprint
    assert loaded.assignment == sparse.assignment
    assert loaded.specification == sparse.specification
    assert {name: mask.dtype for name, mask in loaded.masks.items()} == dict.fromkeys(sparse.masks, torch.bool)


class TestDamage:
    """Files of a network that are not what was written."""

    @pytest.fixture
    def folder(self, sparse: Network, tmp_path: Path) -> Path:
        sparse.save(Folder.at(tmp_path))
        return tmp_path

    def told(self, folder: Path, name: str) -> str:
        with pytest.raises(DamagedError) as damaged:
            Network.load(Folder.at(folder))
        start = f"{folder}/{name} is not what was written there: "
        assert str(damaged.value).startswith(start)
        assert "\n" not in str(damaged.value)
        return str(damaged.value).removeprefix(start)

    @pytest.mark.parametrize("name", ["network.safetensors", "network.json"])
    def test_a_file_cut_anywhere(self, folder: Path, name: str) -> None:
        whole, draws = (folder / name).read_bytes(), random.Random(0)
        for end in [0, 1, len(whole) - 2, *draws.sample(range(len(whole) - 1), 20)]:
            (folder / name).write_bytes(whole[:end])
            assert self.told(folder, name).startswith("it is no ")

    @pytest.mark.parametrize("name", ["network.safetensors", "network.json"])
    def test_a_file_changed_anywhere(self, folder: Path, name: str) -> None:
        whole, draws = (folder / name).read_bytes(), random.Random(0)
        for place in draws.sample(range(len(whole)), 40):
            changed = bytearray(whole)
            changed[place] ^= 1 << draws.randrange(8)
            (folder / name).write_bytes(changed)
            with pytest.raises(DamagedError):
                Network.load(Folder.at(folder))

    def test_the_file_of_another_network(self, folder: Path, sparse: Network, tmp_path: Path) -> None:
        other = replace(sparse, state={**sparse.state, "fc3.bias": sparse.state["fc3.bias"] + 1})
        other.save(Folder.at(tmp_path / "other"))
        for name in ("network.safetensors", "network.json"):
            own = (folder / name).read_bytes()
            (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
            assert self.told(folder, "network.json").startswith("it has the fingerprint ")
            (folder / name).write_bytes(own)
        assert Network.load(Folder.at(folder)).fingerprint == sparse.fingerprint

    @pytest.mark.parametrize(
        "content",
        ["[]", "null", "{}", '"text"', '{"fingerprint": 1}', '{"specification": 3, "sites": 4, "fingerprint": 5}'],
    )
    def test_json_of_something_else(self, folder: Path, content: str) -> None:
        (folder / "network.json").write_text(content)
        assert self.told(folder, "network.json").startswith("it describes no network (")

    def test_tensors_that_are_missing_or_of_other_shapes(self, folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "network.safetensors")
        for changed in (
            {name: tensor for name, tensor in tensors.items() if name != "fc3.bias"},
            {**tensors, "fc3.bias": torch.zeros(3)},
            {**tensors, "fc3.bias": tensors["fc3.bias"].double()},
            {**tensors, "mask:fc3.bias": torch.ones(10, dtype=torch.bool)},
        ):
            safetensors.torch.save_file(changed, folder / "network.safetensors")
            assert self.told(folder, "network.json").startswith("it has the fingerprint ")

    def test_a_missing_file_is_no_damage(self, folder: Path) -> None:
        for name in ("network.json", "network.safetensors"):
            (folder / name).unlink()
            with pytest.raises(FileNotFoundError):
                Network.load(Folder.at(folder))


def test_arrays_round_trip(sparse: Network) -> None:
    assert Network.from_arrays(sparse.to_arrays()).fingerprint == sparse.fingerprint


def test_fingerprint_sees_every_difference(network: Network, sparse: Network, specification: Specification) -> None:
    weights = {**network.state, "fc3.bias": network.state["fc3.bias"] + 1}
    variants = [
        network,
        sparse,
        Network.initial(specification, seed=1),
        network.assign(["tanh", "relu", "relu", "relu"]),
        Network(network.specification, network.sites, network.assignment, weights, {}),
        network.masked(layer(network.prunable(), 0.0)),
        network.grouped(2),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
    assert Network.initial(specification, seed=0).fingerprint == network.fingerprint


def test_the_sign_of_a_pruned_zero_is_neither_saved_nor_in_the_fingerprint(sparse: Network, tmp_path: Path) -> None:
    signed = {name: sparse.state[name] * mask for name, mask in sparse.masks.items()}
    kept, dropped = sparse.masks["fc1.weight"], ~sparse.masks["fc1.weight"]
    signed["fc1.weight"][dropped] = -0.0
    other = replace(sparse, state={**sparse.state, **signed})
    assert other.fingerprint == sparse.fingerprint
    other.save(Folder.at(tmp_path))
    saved = safetensors.torch.load_file(tmp_path / "network.safetensors")["fc1.weight"]
    assert not saved[dropped].view(torch.int32).any(), "all bits of +0.0 are 0"
    assert torch.equal(saved[kept], sparse.state["fc1.weight"][kept])
    assert Network.load(Folder.at(tmp_path)).fingerprint == sparse.fingerprint


def test_tensors_that_lie_in_columns_are_saved_as_they_are(sparse: Network, tmp_path: Path) -> None:
    columns = {name: sparse.state[name].T.contiguous().T for name in ("fc1.weight", "fc2.weight")}
    assert not columns["fc1.weight"].is_contiguous()
    replace(sparse, state={**sparse.state, **columns}).save(Folder.at(tmp_path))
    assert Network.load(Folder.at(tmp_path)).fingerprint == sparse.fingerprint


def test_a_module_trained_further_does_not_change_the_network(network: Network) -> None:
    before = network.fingerprint
    module = network.build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    after = network.after(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert Network(network.specification, network.sites, network.assignment, network.state, {}).fingerprint == before
    assert torch.equal(after.state["fc3.bias"], network.state["fc3.bias"] + 1)


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


class TestGrouped:
    @pytest.mark.parametrize("groups", [2, 3, 6])
    def test_computes_the_same(self, sparse: Network, groups: int) -> None:
        scaled = sparse.assign(["relu", "relu6", "hardswish", "hardtanh"])
        scaled = replace(scaled, state={**scaled.state, "act2.alpha": torch.tensor(0.7)})
        grouped = scaled.grouped(groups)
        assert torch.equal(grouped.build()(images()), scaled.build()(images()))
        assert grouped.sites == tuple(f"act{act}.{group}" for act in (1, 2, 3, 4) for group in range(groups))
        assert grouped.assignment[:groups] == ("relu",) * groups
        assert all(grouped.state[f"act2.{group}.alpha"] == scaled.state["act2.alpha"] for group in range(groups))
        assert grouped.nonzero_weights == sparse.nonzero_weights

    def test_internal_parameters_go_to_every_group(self, sparse: Network) -> None:
        grouped = sparse.grouped(2)
        assert grouped.state["act1.1.internal.p1"] == sparse.state["act1.internal.p1"]
        torch.testing.assert_close(grouped.build()(images()), sparse.build()(images()))

    def test_each_group_is_assigned_saved_and_learned(self, sparse: Network, tmp_path: Path) -> None:
        network = sparse.grouped(2).assign(["srs", "tanh"] * 4)
        module = network.build()
        module(images()).sum().backward()
        assert all(parameter.grad is not None for name, parameter in module.named_parameters() if "alpha" in name)
        network.save(Folder.at(tmp_path))
        loaded = Network.load(Folder.at(tmp_path))
        assert loaded.groups == 2
        assert loaded.fingerprint == network.fingerprint == Network.from_arrays(network.to_arrays()).fingerprint
        assert torch.equal(loaded.build()(images()), module(images()))
        assert list(loaded.activations()) == list(network.sites)
        assert loaded.prunable().keys() == sparse.prunable().keys()

    def test_a_site_of_fewer_channels_is_refused(self, network: Network) -> None:
        with pytest.raises(ConfigurationError) as refused:
            network.grouped(7)
        assert str(refused.value) == "search.groups=7: site act1 has 6 channels; allowed: at most so many"

    def test_a_site_whose_channels_are_not_known_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tokens = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (4, 4)), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
        monkeypatch.setitem(ARCHITECTURES, "tokens", Architecture(lambda _: tokens))
        network = Network.initial(Specification("tokens", (1, 4, 4), 2, (0.1,), (0.3,)), seed=0)
        with pytest.raises(ConfigurationError, match=r"search\.groups=2: site 2 takes \(2, 4, 4\); allowed where"):
            network.grouped(2)

    def test_is_not_grouped_again(self, network: Network) -> None:
        with pytest.raises(ValueError, match="in 2 groups already"):
            network.grouped(2).grouped(3)


class TestOperatorOfAUser:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        code = "import torch\n\ndef soft(z, a=0.5):\n    return z * torch.sigmoid(a * z)\n"
        (tmp_path / "network_of_mine.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    def test_is_assigned_built_saved_and_loaded_in_another_process(self, network: Network, folder: Path) -> None:
        mine = network.assign(["network_of_mine:soft", "relu", "network_of_mine:soft", "tanh"])
        assert mine.state["act1.internal.a"] == 0.5
        mine.save(Folder.at(folder / "network"))
        logits = mine.build()(images())
        assert not torch.equal(logits, network.build()(images()))
        code = """
import sys, torch
from safs_ray.network import Network
from safs_ray.storage import Folder
network = Network.load(Folder.at(sys.argv[1]))
images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
print(network.fingerprint, network.build()(images).sum().item())
"""
        path = os.pathsep.join([str(folder), *sys.path])
        run = subprocess.run(
            [sys.executable, "-c", code, str(folder / "network")],
            check=True, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        fingerprint, total = run.stdout.split()
        assert fingerprint == mine.fingerprint
        assert float(total) == pytest.approx(logits.sum().item(), rel=1e-5)

    def test_where_it_cannot_be_imported_the_name_is_told(self, network: Network) -> None:
        with pytest.raises(ConfigurationError, match="operator=of_nobody:f: of_nobody cannot be imported"):
            network.assign(["of_nobody:f", "relu", "relu", "relu"])
