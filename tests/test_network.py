from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.pruning.allocation import layer
from safs_ray.storage import Folder


@pytest.fixture
def specification() -> Specification:
    return Specification("lenet5", 1, 28, 10, (0.1,), (0.3,))


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
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
    assert Network.initial(specification, seed=0).fingerprint == network.fingerprint


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
