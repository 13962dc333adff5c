"""Whole passes over blocks of images against the layers one by one, and networks side by side against each alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from safs_ray.config import Configuration, DataSection, Execution, Hyperparameters, RunSection
from safs_ray.data import Splits
from safs_ray.losses import CROSS_ENTROPY, Targets
from safs_ray.network import Network
from safs_ray.sparse import plan, program
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import executable
from safs_ray.sparse.fused import FusedCohort
from safs_ray.sparse.module import SparseCohort
from safs_ray.sparse.plan import Plan
from safs_ray.sparse.program import is_chain
from safs_ray.stages import Result
from safs_ray.training import AloneError, Context, Trainer, Training
from tests.sparse.test_module import architecture, architectures, drawn_network, images_and_labels

CPU = torch.device("cpu")
PLAIN = DataSection()


def planned(network: Network) -> Plan:
    return plan.make(network, network.build())


@given(drawn=architectures(), kept=st.floats(0.02, 1), count=st.sampled_from([1, 7, 33, 64]), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_equals_the_layers_one_by_one(
    drawn: tuple[int, int, Callable[[], nn.Module]], kept: float, count: int, seed: int
) -> None:
    channels, size, build = drawn
    with architecture(build) as name:
        network = drawn_network(name, channels, size, kept, seed)
        made = planned(network)
        if not is_chain(made):
            return
        images, labels = images_and_labels(count, channels, size, seed)
        fused, layers = FusedCohort(made, [network]), SparseCohort(made, network, network.build())
        logits = layers(images)[0]
        torch.testing.assert_close(fused(images)[0], logits, rtol=1e-10, atol=1e-10)
        loss = cross_entropy(logits, labels)
        loss.backward()
        expected = torch.cat([_gradient(values) for values in layers.values.values()])
        scales = torch.stack([_gradient(parameter) for parameter in layers.scales])
        cross_entropy(fused(images)[0], labels).backward()
        assert_gradients(fused, made, expected, scales)
        mine = fused.learn(images, Targets(labels), CROSS_ENTROPY)  # in place of the gradients that are there
        torch.testing.assert_close(mine, loss.detach()[None], rtol=1e-10, atol=1e-10)
        assert_gradients(fused, made, expected, scales)


def assert_gradients(fused: FusedCohort, made: Plan, values: Tensor, scales: Tensor) -> None:
    bound = 1e-9 * max(1.0, float(values.abs().max()) if len(values) else 1.0, float(scales.abs().max()))
    torch.testing.assert_close(_gradient(fused.values)[0, : made.values], values, rtol=1e-9, atol=bound)
    own = [
        torch.cat([_gradient(fused.scales_of_sites)[0, site, :2], _gradient(fused.internal)[0, site, : len(names) - 2]])
        for site, names in enumerate(fused._names[0])
    ]
    torch.testing.assert_close(torch.cat(own), scales, rtol=1e-9, atol=bound)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def test_what_is_no_chain_or_too_large_is_executed_layer_by_layer(
    pruned: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(executable(pruned.network, "sparse", CPU).cohort, FusedCohort)
    own = pruned.network.assign(["tests.sparse.test_operators:by_sorting", "relu"])
    assert isinstance(executable(own, "sparse", CPU).cohort, SparseCohort)
    monkeypatch.setattr(program, "CACHED_BYTES", 1000)
    assert isinstance(executable(pruned.network, "sparse", CPU).cohort, SparseCohort)


def executed(splits: Splits, execution: Execution, data: DataSection = PLAIN) -> Context:
    return Context(Configuration(data=data, run=RunSection(execution=execution)), splits)


def training(splits: Splits, optimizer: str, schedule: str = "cosine", learn_scales: bool = True) -> Training:
    chosen = (
        Hyperparameters(optimizer=optimizer, learning_rate=0.02, momentum=0.9, batch_size=50, schedule=schedule)
        if optimizer == "sgd"
        else Hyperparameters(optimizer=optimizer, learning_rate=0.02, batch_size=50)
    )
    return Training(executed(splits, "sparse", DataSection(crop=1, flip=True)), chosen, 3, 0, learn_scales)


CANDIDATES = (("relu", "relu"), ("srs", "acon"), ("symexp", "symexp"), ("tanh", "softplus"), ("gelu", "srelu"))


@pytest.mark.parametrize("learn_scales", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "tadam", "fromage"])
def test_each_of_a_cohort_ends_as_it_would_alone(
    pruned: Result, splits: Splits, optimizer: str, learn_scales: bool
) -> None:
    how = training(splits, optimizer, learn_scales=learn_scales)
    networks = [pruned.network.assign(candidate) for candidate in CANDIDATES]
    trainer = Trainer(networks, how)
    while trainer.epoch < how.epochs:
        trainer.run_epoch()
    assert len({standing.best.fingerprint for standing in trainer.standings}) == len(networks)
    for network, standing in zip(networks, trainer.standings, strict=True):
        alone = Trainer([network], how).run().standing
        assert standing.best.fingerprint == alone.best.fingerprint
        assert replace(standing, best=alone.best) == alone


@pytest.mark.parametrize("execution", [FusedCohort, SparseCohort])
@pytest.mark.parametrize("learn_scales", [True, False])
@pytest.mark.parametrize("optimizer", ["adam", "tadam", "fromage"])
def test_optimizers_go_on_as_in_the_dense_network(
    pruned: Result,
    splits: Splits,
    optimizer: str,
    learn_scales: bool,
    execution: type[Cohort],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of whole tensors, too, and with weights that have no gradient any more and only decay."""
    if execution is SparseCohort:
        monkeypatch.setattr(program, "CACHED_BYTES", 0)
    chosen = Hyperparameters(optimizer=optimizer, learning_rate=0.01, weight_decay=0.1, batch_size=64)
    network = pruned.network.assign(("srs", "tanh"))
    ends = []
    ways: tuple[Execution, ...] = ("dense", "sparse")
    for way in ways:
        trainer = Trainer([network], Training(executed(splits, way), chosen, 2, 0, learn_scales))
        assert isinstance(trainer._cohort, DenseCohort if way == "dense" else execution)
        trainer.run()
        ends.append(trainer.current().state)
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4)


def test_one_that_diverges_leaves_the_others_alone(pruned: Result, splits: Splits) -> None:
    how = training(splits, "adam")
    broken = {name: tensor * (1e30 if name.endswith("weight") else 1) for name, tensor in pruned.network.state.items()}
    networks = [replace(pruned.network, state=broken).assign(("symexp", "symexp")), pruned.network]
    trainer = Trainer(networks, how)
    while trainer.epoch < how.epochs:
        trainer.run_epoch()
    first, second = trainer.standings
    assert first.diverged
    assert first.accuracy == first.best_accuracy == 0
    assert second.best.fingerprint == Trainer([pruned.network], how).run().standing.best.fingerprint


def test_a_cohort_goes_on_from_its_state(pruned: Result, splits: Splits) -> None:
    how = training(splits, "adam")
    networks = [pruned.network.assign(candidate) for candidate in CANDIDATES[:3]]
    whole, first, second = (Trainer(networks, how) for _ in range(3))
    for _ in range(3):
        whole.run_epoch()
    first.run_epoch()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.run_epoch()
    second.run_epoch()
    for mine, other in zip(second.standings, whole.standings, strict=True):
        assert mine.best.fingerprint == other.best.fingerprint


def test_what_cannot_be_trained_together_is_told(pruned: Result, splits: Splits) -> None:
    networks = [pruned.network, pruned.network.assign(("tanh", "tanh"))]
    dense = replace(training(splits, "adam"), context=executed(splits, "dense"))
    for how in (dense, training(splits, "sgd", "plateau")):
        with pytest.raises(AloneError):
            Trainer(networks, how)


@pytest.mark.parametrize("execution", [FusedCohort, SparseCohort])
def test_images_of_another_kind_are_refused_before_they_are_read(
    pruned: Result, splits: Splits, execution: type[Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    if execution is SparseCohort:
        monkeypatch.setattr(program, "CACHED_BYTES", 0)
    module = executable(pruned.network, "sparse", CPU)
    assert isinstance(module.cohort, execution)
    images = splits.validation.inputs
    for wrong in (images[..., 1:], images.float(), images[:, 0]):
        with pytest.raises(ValueError, match=r"images must be uint8 \(N, 1, 8, 8\), not torch\.\w+ \("):
            module(wrong)


def test_copies_and_pickles_compute_the_same(pruned: Result, splits: Splits) -> None:
    module = executable(pruned.network.assign(("srs", "acon")), "sparse", CPU).eval()
    logits = module(splits.validation.inputs)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(splits.validation.inputs), logits)
        assert not other.training
