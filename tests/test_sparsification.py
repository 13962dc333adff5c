from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import symbolic_trace

import safs_ray
from safs_ray import ConfigurationError, stages
from safs_ray.data import Dataset
from safs_ray.log import log
from safs_ray.sparsification import Sparsified

SHORT = (
    "run.verbose=0", "dense.epochs=2", "pruning.recipe=one-shot-global", "pruning.epochs=1", "search.steps=2",
    "search.epochs=1", "finetune.epochs=1", "finetune.epochs_per_step=1", "tune.trials=2", "tune.grace_period=1",
    "final.epochs=1", "final.seeds=1",
)  # fmt: skip

Images = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> Images:
    return dataset.pool.inputs, dataset.pool.labels


def module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))


@pytest.fixture(scope="module")
def sparse(images: Images) -> Sparsified:
    return safs_ray.sparsify(module(), images, images, sparsity=0.9, settings=SHORT)


def test_sparsify_gives_the_network_its_table_and_its_assignment(sparse: Sparsified, images: Images) -> None:
    rows = {row["name"]: row for row in sparse.results["rows"]}
    assert list(rows) == ["dense", "pruned", "SAFS"]
    assert sparse.network.nonzero_weights == rows["SAFS"]["nonzero_weights"] == 148
    assert list(sparse.assignment) == ["2"]
    assert [line.split()[0] for line in str(sparse).splitlines() if line.strip()][3:6] == ["dense", "pruned", "SAFS"]
    right = (sparse.module(images[0]).argmax(1) == images[1]).double().mean().item()
    assert right == pytest.approx(rows["SAFS"]["test_accuracy"]["mean"], abs=1e-9)


def test_sparsify_gives_the_same_bits_again_and_leaves_what_it_is_given(sparse: Sparsified, images: Images) -> None:
    given, threads, flushed = module(), torch.get_num_threads(), stages.flushes_subnormals()
    before, handlers = {name: tensor.clone() for name, tensor in given.state_dict().items()}, log.handlers
    again = safs_ray.sparsify(given, images, images, sparsity=0.9, settings=SHORT)
    assert all(torch.equal(tensor, sparse.network.state[name]) for name, tensor in again.network.state.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in given.state_dict().items())
    assert not any(parameter.grad is not None for parameter in given.parameters())
    assert (torch.get_num_threads(), log.handlers) == (threads, handlers)
    assert stages.flushes_subnormals() == flushed


def trained(images: Images) -> nn.Module:
    """A network that classifies the images, as it sees them normalised."""
    network, (inputs, labels) = module(), images
    pixels = inputs.float() / 255
    normalised = (pixels - pixels.mean()) / pixels.std()
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(normalised), labels).backward()
        optimizer.step()
    return network


def test_sparsify_does_not_train_a_trained_network_first(images: Images) -> None:
    network = trained(images)
    settings = [setting for setting in SHORT if not setting.startswith("dense.")]
    dense, *_ = safs_ray.sparsify(network, images, images, sparsity=0.5, settings=settings).results["rows"]
    assert dense["core_seconds"] == 0, "as it came"
    assert dense["test_accuracy"]["mean"] > 0.9


def test_sparsify_keeps_the_zeros_of_a_network_that_came_pruned(images: Images) -> None:
    network = trained(images)
    with torch.no_grad():
        for layer in (network[1], network[3]):  # type: ignore[index]
            weight = layer.weight
            weight[weight.abs() < weight.abs().quantile(0.8)] = 0
    sparse = safs_ray.sparsify(network, images, images, sparsity=None, settings=SHORT)
    assert [row["name"] for row in sparse.results["rows"]] == ["pruned", "SAFS"]
    for name, weight in network.state_dict().items():
        if name in sparse.network.masks:
            assert torch.equal(sparse.network.masks[name], weight != 0)


@pytest.mark.parametrize(
    ("settings", "sparsity", "line"),
    [
        ((), 1.0, "pruning.sparsity=1.0: "),
        (("search.stepz=5",), 0.9, "search.stepz"),
        (("data.validation=0.999",), 0.9, "data.validation=0.999"),
    ],
)
def test_sparsify_refuses_bad_settings_before_anything_is_trained(
    images: Images, settings: tuple[str, ...], sparsity: float, line: str
) -> None:
    with pytest.raises(ConfigurationError, match=line):
        safs_ray.sparsify(module(), images, images, sparsity=sparsity, settings=settings)


def test_sparsify_takes_a_traced_network_without_hooks_of_its_own(images: Images) -> None:
    traced = symbolic_trace(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)))
    sparse = safs_ray.sparsify(traced, images, images, sparsity=0.5, settings=SHORT)
    assert (list(sparse.assignment), sparse.network.nonzero_weights) == (["2"], 296)


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (lambda module: module.register_forward_hook(lambda *_: None), "a hook on itself, which is traced"),
        (
            lambda module: module.get_parameter("1.bias").register_hook(lambda _: None),
            "a hook on the gradient of 1.bias",
        ),
    ],
)
def test_sparsify_refuses_a_network_with_hooks_that_no_copy_keeps(
    images: Images, hook: Callable[[nn.Module], object], reason: str
) -> None:
    traced = symbolic_trace(module())
    hook(traced)
    with pytest.raises(ConfigurationError, match=f"module=Sequential: has {reason}"):
        safs_ray.sparsify(traced, images, images, sparsity=0.5, settings=SHORT)


def test_sparsify_within_a_budget_keeps_what_the_settings_name_and_tells_what_it_took(images: Images) -> None:
    within = safs_ray.sparsify(module(), images, images, settings=SHORT, budget="2h")
    assert within.results["budget"]["seconds"] == 7200
    assert within.results["budget"]["missing"] == []
    assert "of its budget of 2 h 00 min" in str(within)
    with pytest.raises(ConfigurationError, match=r"^run.budget=soon: must be a time above 0"):
        safs_ray.sparsify(module(), images, images, budget="soon")


def test_sparsify_refuses_images_that_the_network_cannot_take(images: Images) -> None:
    inputs, labels = images
    with pytest.raises(ConfigurationError, match=r"model.name=memory:Sequential_\d+"):
        safs_ray.sparsify(module(), (inputs[:, :, :6, :6], labels), (inputs[:, :, :6, :6], labels))
    with pytest.raises(ConfigurationError, match=r"^data\.source"):
        safs_ray.sparsify(module(), (inputs.float(), labels), (inputs, labels))


def test_sparsify_tries_pruners_unless_a_setting_names_one(images: Images) -> None:
    short = [setting for setting in SHORT if not setting.startswith("pruning.")]
    chosen = ["pruning.epochs=4", "pruning.recipes=[erk, gradual]"]
    sparse = safs_ray.sparsify(module(), images, images, sparsity=0.9, settings=[*short, *chosen])
    assert set(sparse.results["pruners"]) == {"erk", "gradual"}
    assert "Pruners tried, validation accuracy: " in str(sparse)
    named = safs_ray.sparsify(
        module(), images, images, sparsity=0.9, settings=[*short, "pruning.epochs=1", "pruning.score=random"]
    )
    assert named.results["pruners"] == {}
