from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from safs_ray import pruning, schedules
from safs_ray.accuracy import accuracy
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, ConfigurationError, PruningSection
from safs_ray.data import Splits
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.schedules import SCHEDULES, Task
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context, Mean, Trainer, Training

SGD = {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}


def section(schedule: str, **values: object) -> PruningSection:
    chosen = {**SGD, "batch_size": 32}
    given = {"sparsity": 0.9, "allocation": "global", "interval": 2, "epochs": 3, "particles": 2, "fraction": 0.7}
    return PruningSection.model_validate({**given, "schedule": schedule, "hyperparameters": chosen, **values})


def task(network: Network, splits: Splits, chosen: PruningSection, rewound: Network | None = None) -> Task:
    training = Training(Context(Configuration(), splits), chosen.hyperparameters, chosen.epochs, 5)
    return Task(network, chosen, training, rewound)


def within(given: Task, **values: Any) -> Task:
    """The task in a context with other values."""
    training = given.training
    return replace(given, training=replace(training, context=replace(training.context, **values)))


def reported(given: Task) -> tuple[Network, float, list[int]]:
    """A schedule's outcome, and the epochs that it reported."""
    epochs: list[int] = []
    made = schedules.follow(within(given, report=lambda epoch, _: epochs.append(epoch)))
    return made.network, made.accuracy, epochs


EVERY = pytest.mark.parametrize("schedule", SCHEDULES)


@EVERY
def test_ends_at_the_exact_count_with_the_score_of_its_network(
    dense: Result, splits: Splits, device: torch.device, schedule: str
) -> None:
    chosen = section(schedule)
    network, score, epochs = reported(task(dense.network, splits, chosen))
    total = network.prunable_count
    assert network.nonzero_weights == total - round(0.9 * total)
    assert score == accuracy(network, splits.validation, device, Configuration())
    assert epochs == list(range(1, schedules.epochs(chosen) + 1)), "every epoch is reported once, in order"
    for name, mask in network.masks.items():
        assert (network.state[name][~mask] == 0).all()


@pytest.mark.parametrize("schedule", ["one shot", "gradual", "iterative", "swamp"])
def test_channels_go_whole_by_every_schedule_that_takes_them(dense: Result, splits: Splits, schedule: str) -> None:
    """270 of 300 and 90 of 100 neurons, in blocks of 16, with what reads them; the ten outputs stay."""
    chosen = section(schedule, structure="filters", allocation="layer", epochs=1)
    network, _, _ = reported(task(dense.network, splits, chosen))
    assert [int(mask.any(1).sum()) for mask in network.masks.values()] == [32, 16, 10]
    assert [int(mask.sum()) for mask in network.masks.values()] == [32 * 64, 32 * 16, 16 * 10]


@pytest.mark.parametrize("schedule", ["one shot", "gradual", "iterative", "swamp"])
def test_channels_go_until_a_share_of_the_multiply_adds_is_left(dense: Result, splits: Splits, schedule: str) -> None:
    chosen = section(schedule, sparsity=0.75, macs=0.25, structure="filters", allocation="global", epochs=1)
    network, _, _ = reported(task(dense.network, splits, chosen))
    assert 0.2 < network.nonzero_weights / network.prunable_count <= 0.25  # one place for each weight


@pytest.mark.parametrize("schedule", ["one shot", "gradual", "iterative", "swamp", "gsm"])
def test_blocks_go_whole_by_every_schedule_that_takes_them(dense: Result, splits: Splits, schedule: str) -> None:
    """Of layers of 300, 100 and 10 outputs, four outputs at a time; the last two outputs are half a block."""
    chosen = section(schedule, structure="blocks:4x1", epochs=1)
    network, _, _ = reported(task(dense.network, splits, chosen))
    assert network.nonzero_weights == pytest.approx(0.1 * network.prunable_count, rel=0.01)
    for mask in network.masks.values():
        parts = mask.split(4)
        assert all((part.any(0) == part.all(0)).all() for part in parts)


@pytest.mark.parametrize("schedule", ["one shot", "iterative"])
@pytest.mark.parametrize("score", ["random", "snip", "grasp", "synflow"])
def test_every_score_goes_with_a_schedule(dense: Result, splits: Splits, schedule: str, score: str) -> None:
    network, _, _ = reported(task(dense.network, splits, section(schedule, score=score, epochs=1)))
    assert network.nonzero_weights == network.prunable_count - round(0.9 * network.prunable_count)


@EVERY
def test_same_seed_same_bits_and_another_seed_not(dense: Result, splits: Splits, schedule: str) -> None:
    given = task(dense.network, splits, section(schedule))
    one, again = (schedules.follow(given)[0].fingerprint for _ in range(2))
    other = schedules.follow(replace(given, training=replace(given.training, seed=6)))[0].fingerprint
    assert one == again != other


@pytest.mark.parametrize(
    ("schedule", "sparsity", "fraction", "rounds"),
    [
        ("iterative", 0.99, 0.2, [1 - 0.8**index for index in range(1, 21)]),
        ("iterative", 0.36, 0.2, [0.2]),
        ("swamp", 0.9, 0.5, [0.5, 0.75, 0.875]),
        ("iterative", 0.1, 0.2, []),
        ("iterative", 0.0, 0.2, []),
        ("gradual", 0.9, 0.5, []),
    ],
)
def test_a_round_prunes_a_fraction_of_what_is_left(
    schedule: str, sparsity: float, fraction: float, rounds: list[float]
) -> None:
    chosen = section(schedule, sparsity=sparsity, fraction=fraction)
    assert chosen.sparsities == pytest.approx([*rounds, sparsity])


def test_epochs_are_counted_over_rounds_and_particles() -> None:
    assert schedules.epochs(section("one shot")) == schedules.epochs(section("rigl")) == 3
    assert schedules.epochs(section("iterative")) == 2 * 3
    assert schedules.epochs(section("swamp")) == 2 * 2 * 3
    assert schedules.epochs(section("one shot", epochs=0)) == 0


@pytest.mark.parametrize("rewind", [False, True], ids=["learning rate", "weights"])
def test_iterative_by_hand(dense: Result, splits: Splits, rewind: bool) -> None:
    """70 % of 0.1 <= 1 go in the first round, the rest of 90 % in the second."""
    initial = Network.initial(dense.network.specification, seed=9)
    chosen = section("iterative", rewind=0 if rewind else None)
    given = task(dense.network, splits, chosen, initial if rewind else None)
    network = dense.network
    for index, sparsity in enumerate((0.7, 0.9)):
        part = chosen.model_copy(update={"sparsity": sparsity})
        masks = pruning.find_masks(schedules.evidence(network, part, given.training), part, network.masks, network)
        ticket = (initial if rewind else network).masked(masks)
        seed = derive(given.training.seed, "round", index)
        network = Trainer([ticket], replace(given.training, seed=seed)).run().standing.best
        assert network.sparsity == pytest.approx(sparsity, abs=1e-4)
    assert schedules.follow(given)[0].fingerprint == network.fingerprint


def test_swamp_by_hand(dense: Result, splits: Splits) -> None:
    """Two particles of a ticket, four epochs each, the last one of which counts; 50 % in a single round."""
    given = task(dense.network, splits, section("swamp", sparsity=0.5, epochs=4))
    ticket = schedules.prune_once(dense.network, given.section, given.training)
    ends = []
    for particle in range(2):
        training = replace(given.training, seed=derive(given.training.seed, "particle", 0, particle))
        ends.append(Trainer([ticket], training).run().current())
    network = schedules.follow(given).network
    assert ends[0].fingerprint != ends[1].fingerprint
    for name, tensor in network.state.items():
        mean = (ends[0].state[name].double() + ends[1].state[name].double()) / 2
        assert torch.equal(tensor, mean.to(tensor.dtype)), name


def test_swamp_averages_the_last_quarter_of_the_epochs(dense: Result, splits: Splits) -> None:
    given = task(dense.network, splits, section("swamp", sparsity=0.5, epochs=8, particles=3))
    assert len(list(schedules._visited(dense.network, 0, given))) == 3 * 2


def test_swamp_prunes_the_mean_of_the_round_before(dense: Result, splits: Splits) -> None:
    chosen = section("swamp", sparsity=0.9, fraction=0.7, epochs=1)
    given = task(dense.network, splits, chosen)
    first = chosen.model_copy(update={"sparsity": 0.7})
    ticket = schedules.prune_once(dense.network, first, given.training)
    visited = [network.state for network in schedules._visited(ticket, 0, given)]
    mean = Mean(visited).of(ticket, given.training.context)
    network = schedules.follow(given).network
    expected = pruning.find_masks(schedules.evidence(mean, chosen, given.training), chosen, mean.masks, mean)
    assert all(torch.equal(mask, expected[name]) for name, mask in network.masks.items())


class KilledError(Exception):
    pass


@pytest.mark.parametrize("schedule", ["one shot", "iterative", "swamp"])
@pytest.mark.parametrize("last", [2, 5, 11])
def test_after_an_interruption_it_ends_as_if_there_had_been_none(
    dense: Result, splits: Splits, tmp_path: Path, schedule: str, last: int
) -> None:
    """Two rounds of two particles of four epochs: among those that are averaged, between particles, and at an end."""
    given = task(dense.network, splits, section(schedule, epochs=4, fraction=0.7))
    whole = schedules.follow(given)
    assert whole.core_seconds_before == 0

    def kill(epoch: int, _: float) -> None:
        if epoch == last:
            raise KilledError

    kept = within(given, checkpoints=Checkpoints(Folder.at(tmp_path), seconds=0))
    if last <= schedules.epochs(given.section):
        with pytest.raises(KilledError):
            schedules.follow(within(kept, report=kill))
    resumed = schedules.follow(kept)
    assert resumed.network.fingerprint == whole.network.fingerprint
    assert resumed.accuracy == whole.accuracy
    if schedule != "swamp":
        assert (resumed.core_seconds_before > 0) == (last <= schedules.epochs(given.section))


def test_evidence_is_the_network_and_the_first_training_images_as_it_sees_them(dense: Result, splits: Splits) -> None:
    given = task(dense.network, splits, section("one shot", images=10))
    seen = schedules.evidence(dense.network, given.section, given.training)
    assert not seen.module.training
    assert seen.images.shape == (10, 1, 8, 8)
    assert torch.equal(seen.labels, splits.train.labels[:10])
    many = schedules.evidence(dense.network, section("one shot", images=10**6), given.training)
    assert len(many.labels) == len(splits.train)
    assert abs(many.images.mean().item()) < 1e-5


class Deep(nn.Module):
    """Convolutions, each with its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs in [1] + [8] * 5:
            blocks += [nn.Conv2d(inputs, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(x).mean((2, 3)))
        return logits


@pytest.mark.parametrize("score", ["snip", "grasp"])
def test_initial_weights_are_scored_by_the_statistics_of_the_images(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, score: str
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "deep", Architecture(lambda _: Deep()))
    network = Network.initial(Specification("deep", (1, 8, 8), 10, (0.5,), (0.25,)), seed=0)
    given = task(network, splits, section("one shot", score=score, allocation="global", sparsity=0.7))
    assert schedules.evidence(network, given.section, given.training).module.training
    pruned = schedules.prune_once(network, given.section, given.training)
    assert pruned.survey.emptied == ()
    assert pruned.survey.reached == 10
    for name, tensor in network.state.items():
        if "running" in name or "num_batches" in name:
            assert torch.equal(pruned.state[name], tensor), name
    trained = replace(network, state={**network.state, "blocks.1.running_mean": torch.ones(8)})
    assert not schedules.evidence(trained, given.section, given.training).module.training


@EVERY
def test_divergence_is_told(dense: Result, splits: Splits, schedule: str) -> None:
    wild = {"optimizer": "sgd", "learning_rate": 10.0, "momentum": 0.99, "weight_decay": 0.01, "batch_size": 32}
    chosen = section(schedule, sparsity=0.1, hyperparameters=wild, epochs=30)
    with pytest.raises(ConfigurationError, match=r"^pruning.hyperparameters.learning_rate=10.0: the training diverges"):
        schedules.follow(task(dense.network.assign(["symexp", "symexp"]), splits, chosen))
