from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from safs_ray.accuracy import accuracy
from safs_ray.config import (
    Configuration,
    ConfigurationError,
    Costs,
    DataSection,
    Execution,
    Hyperparameters,
    RunSection,
)
from safs_ray.data import Splits
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.pruning.allocation import layer
from safs_ray.sparse import plan
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import cohort, executable
from safs_ray.sparse.fused import FusedCohort
from safs_ray.sparse.module import SparseCohort
from safs_ray.stages import Result
from safs_ray.training import Context, Trainer, Training

CPU = torch.device("cpu")


def masked(model: str, channels: int, size: int, sparsity: float) -> Network:
    specification = Specification(model, channels, size, 10, (0.5,) * channels, (0.25,) * channels)
    network = Network.initial(specification, seed=0)
    return network.masked(layer({name: weight.abs() for name, weight in network.prunable().items()}, sparsity))


def trainer(network: Network, splits: Splits, execution: Execution, seed: int = 0) -> Trainer:
    chosen = Hyperparameters(optimizer="sgd", learning_rate=0.05, momentum=0.9, batch_size=50)
    configuration = Configuration(data=DataSection(crop=1, flip=True), run=RunSection(execution=execution))
    return Trainer([network], Training(Context(configuration, splits), chosen, 4, seed, learn_scales=True))


def test_auto_is_sparse_where_that_is_faster_and_always_chooses_alike() -> None:
    very_sparse, hardly = masked("lenet5", 1, 28, 0.99), masked("mlp", 1, 28, 0.3)
    for _ in range(2):
        assert isinstance(executable(very_sparse, "auto", CPU).cohort, FusedCohort)
        assert isinstance(executable(hardly, "auto", CPU).cohort, DenseCohort)
    assert isinstance(executable(hardly, "sparse", CPU).cohort, FusedCohort)
    assert isinstance(executable(very_sparse, "dense", CPU).cohort, DenseCohort)
    assert isinstance(executable(replace(very_sparse, masks={}), "sparse", CPU).cohort, DenseCohort)


def test_the_same_training_but_for_rounding(pruned: Result, splits: Splits) -> None:
    dense, sparse = (trainer(pruned.network, splits, execution).run() for execution in ("dense", "sparse"))
    assert isinstance(sparse._cohort, FusedCohort)
    assert abs(dense.standing.best_accuracy - sparse.standing.best_accuracy) < 0.1
    mine, theirs = sparse._cohort.state(0), dense._cohort.state(0)
    assert mine.keys() == theirs.keys()
    made = plan.make(pruned.network, pruned.network.build())
    left = made.gathered({name: torch.ones_like(each) for name, each in theirs.items()})
    alive = made.scattered(left, {name: torch.zeros_like(each) for name, each in theirs.items()})
    for name, other in theirs.items():
        torch.testing.assert_close(mine[name] * alive.get(name, 1), other * alive.get(name, 1), rtol=1e-2, atol=1e-3)
        if name in pruned.network.masks:
            assert (mine[name][~pruned.network.masks[name]] == 0).all()


def test_resuming_equals_an_uninterrupted_training(pruned: Result, splits: Splits) -> None:
    network = pruned.network.assign(["srs", "acon"])
    whole = trainer(network, splits, "sparse").run()
    first, second = trainer(network, splits, "sparse"), trainer(network, splits, "sparse")
    first.run_epoch()
    state = first.state_dict()
    assert {name: each.shape for name, each in state["networks"][0].items()} == {
        name: each.shape for name, each in network.state.items()
    }
    second.load_state_dict(state)
    second.run()
    assert second.standing.best.fingerprint == whole.standing.best.fingerprint
    assert second.standing.best_accuracy == whole.standing.best_accuracy
    assert whole.standing.best.fingerprint != trainer(network, splits, "sparse", seed=1).run().standing.best.fingerprint


def test_what_is_removed_stays_as_it_is(splits: Splits) -> None:
    network = masked("mlp", 1, 8, 0.95)
    network = replace(network, state={**network.state, "fc1.bias": network.state["fc1.bias"] + 1})
    trained = trainer(network, splits, "sparse").run().standing.best
    dead = ~(network.masks["fc2.weight"]).any(0)
    assert dead.any()
    changed = trained.state["fc1.bias"] != network.state["fc1.bias"]
    assert not changed[dead].any()
    assert changed[~dead].any()


def test_accuracy_is_that_of_the_training(pruned: Result, splits: Splits) -> None:
    done = trainer(pruned.network, splits, "sparse").run()
    found = accuracy(done.standing.best, splits.validation, CPU, RunSection(execution="sparse"))
    assert found == done.standing.best_accuracy


def test_a_cohort_gives_the_logits_and_the_state_of_each_network(pruned: Result, splits: Splits) -> None:
    networks, images = [pruned.network, pruned.network.assign(("tanh", "srs"))], splits.validation.inputs
    together = cohort(networks, "sparse", CPU)
    assert together is not None
    logits = together(images)
    assert logits.shape == (2, len(images), 10)
    for number, network in enumerate(networks):
        assert torch.equal(logits[number], executable(network, "sparse", CPU)(images))
        assert all(torch.equal(tensor, network.state[name]) for name, tensor in together.state(number).items())


def test_a_cohort_of_several_networks_is_none_where_only_one_can_be_trained(pruned: Result) -> None:
    networks = [pruned.network, pruned.network.assign(("tanh", "srs"))]
    assert cohort(networks, "dense", CPU) is None
    assert isinstance(cohort(networks[:1], "dense", CPU), DenseCohort)
    sorting = pruned.network.assign(["tests.sparse.test_operators:by_sorting", "relu"])
    assert cohort([pruned.network, sorting], "sparse", CPU) is None, "one of them cannot be compiled"
    assert cohort([sorting, pruned.network], "sparse", CPU) is None


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.fc, self.act = nn.Flatten(), nn.Linear(64, 10), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.act(self.fc(self.flatten(x)))


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setitem(ARCHITECTURES, "doubled", Architecture(lambda _: Doubled()))
    return masked("doubled", 1, 8, 0.99)


def test_auto_is_dense_for_a_network_with_unknown_steps(unknown: Network) -> None:
    assert isinstance(executable(unknown, "auto", CPU).cohort, DenseCohort)


def test_a_demand_that_cannot_be_met_is_refused_in_one_line(unknown: Network) -> None:
    with pytest.raises(ConfigurationError, match=r"run.execution=sparse: .*doubled.*mul.*auto, dense"):
        executable(unknown, "sparse", CPU)
    with pytest.raises(ConfigurationError, match=r"run.execution=sparse: .*CPU"):
        executable(unknown, "sparse", torch.device("meta"))


def test_a_layer_is_dense_where_its_zeros_are_too_few_to_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST_CONNECTIONS", 0)  # as in a large network
    network = masked("lenet5", 1, 28, 0.5)
    masks = {name: mask if "fc" in name else torch.ones_like(mask) for name, mask in network.masks.items()}
    network = replace(network, masks=masks)

    def dense(nonzero: float, crossing: float) -> list[str]:
        made = plan.make(network, network.build(), Costs(nonzero, neuron=1, crossing=crossing))
        return [made.steps[index].operation.owner for index in sorted(made.dense)]

    # conv2 makes 16 planes of 10x10 of 6 of 14x14, of which a dense layer fills up 8.
    uses, filled, neurons = 16 * 6 * 25 * 100, 16 * 8 * 25 * 100, 6 * 14 * 14 + 16 * 10 * 10
    break_even = filled / uses + neurons / uses
    assert dense(break_even * 0.99, crossing=1) == []
    assert dense(break_even * 1.01, crossing=1) == ["conv2"]
    assert dense(nonzero=1e6, crossing=1) == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert isinstance(executable(network, "auto", CPU, Costs(1e-3, 1, 1)).cohort, FusedCohort)
    assert isinstance(executable(network, "auto", CPU, Costs(break_even * 1.01, 1e-3, 1)).cohort, SparseCohort)
    assert isinstance(executable(network, "sparse", CPU, Costs(1e6, 1, 1)).cohort, FusedCohort)
    assert isinstance(executable(network, "auto", CPU, Costs(1e6, 1, 1e6)).cohort, DenseCohort)
