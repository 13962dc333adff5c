"""The mean of the weights of the last epochs of a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from safs_ray.accuracy import accuracy
from safs_ray.config import Execution, Hyperparameters, PruningSection, RunSection
from safs_ray.data import Splits
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.pruning.changing import RULES
from safs_ray.stages import Result
from safs_ray.training import Context, Mean, Trainer, Training
from tests.test_training import saved_and_loaded

CHOSEN = Hyperparameters(learning_rate=0.1, batch_size=16)
EPOCHS = 6
SPARSE = RunSection(execution="sparse")


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act, self.fc = nn.BatchNorm2d(1), nn.ReLU(), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.fc(self.act(self.norm(x)).flatten(1))
        return output


@pytest.fixture
def normalised(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setitem(ARCHITECTURES, "normalised", Architecture(lambda _: Normalised()))
    return Network.initial(Specification("normalised", (1, 8, 8), 10, *splits.train.statistics()), seed=0)


def averaging(context: Context, execution: Execution = "sparse", average: float = 0.5, seed: int = 0) -> Training:
    run = RunSection(execution=execution)
    own = replace(context, configuration=context.configuration.model_copy(update={"run": run}))
    return Training(own, CHOSEN, EPOCHS, seed, learn_scales=True, average=average)


def networks_after(trainer: Trainer) -> Iterator[Network]:
    """The network after each epoch."""
    while not trainer.over:
        trainer.run_epoch()
        yield trainer.current()


def test_mean_of_three_states_is_exact() -> None:
    states = [{"weight": torch.tensor([value, 0.0]), "count": torch.tensor(3)} for value in (1.0, 2.0, 6.0)]
    mean = Mean(states)
    assert mean.count == 3
    assert (mean._sums["weight"] / 3).tolist() == [3.0, 0.0]


def test_mean_takes_the_statistics_of_normalisation_anew(normalised: Network, context: Context) -> None:
    """Those of the mean of networks are not the mean of the networks' statistics."""
    found = Mean([normalised.state]).of(normalised, context)
    assert found.state["norm.running_mean"].item() == pytest.approx(0, abs=1e-4), "the images are normalised"
    assert found.state["norm.running_var"].item() == pytest.approx(1, abs=1e-2)
    for name in normalised.state:
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(found.state[name], normalised.state[name]), name


@pytest.mark.parametrize(
    ("execution", "seed", "better"), [("dense", 0, True), ("sparse", 0, True), ("sparse", 2, False)]
)
def test_trainer_takes_the_mean_of_the_last_epochs_where_it_is_better(
    pruned: Result, context: Context, execution: Execution, seed: int, better: bool
) -> None:
    training = averaging(context, execution, seed=seed)
    trainer = Trainer([pruned.network], training)
    seen = list(networks_after(trainer))
    mean = Mean(network.state for network in seen[3:]).of(seen[-1], training.context)
    reached = accuracy(mean, context.splits.validation, context.device, context.configuration)
    best = max(trainer.standing.curve)
    assert trainer.standing.best_accuracy == max(reached, best)
    assert (trainer.standing.best.fingerprint == mean.fingerprint) == (reached >= best) == better
    assert trainer.standing.best.masks.keys() == pruned.network.masks.keys()
    for name, mask in trainer.standing.best.masks.items():
        assert torch.equal(mask, pruned.network.masks[name])
        assert (trainer.standing.best.state[name][~mask] == 0).all()
    plain = Trainer([pruned.network], replace(training, average=0.0)).run()
    assert plain.standing.curve == trainer.standing.curve, "nothing else of the training changes"
    assert plain.current().fingerprint == trainer.current().fingerprint


def test_trainer_resumed_among_the_averaged_epochs_ends_as_one_never_interrupted(
    pruned: Result, context: Context
) -> None:
    training = averaging(context, average=1.0)
    networks = [pruned.network.assign([operator] * 2) for operator in ("tanh", "srs")]
    whole, first = Trainer(networks, training).run(), Trainer(networks, training)
    for _ in range(4):
        first.run_epoch()
    second = Trainer(networks, training)
    second.load_state_dict(saved_and_loaded(first.state_dict()))
    second.run()
    for mine, other in zip(second.standings, whole.standings, strict=True):
        assert mine.best.fingerprint == other.best.fingerprint
        assert replace(mine, best=other.best) == other
    alone = [Trainer([network], training).run().standing for network in networks]
    assert [each.best.fingerprint for each in alone] == [each.best.fingerprint for each in whole.standings]


def test_trainer_takes_no_mean_of_weights_whose_masks_still_change(dense: Result, context: Context) -> None:
    section = PruningSection(sparsity=0.9, schedule="gradual", interval=2, until=0.8)
    rule = partial(RULES["gradual"], section=section, network=dense.network)
    trainer = Trainer([dense.network], replace(averaging(context, average=1.0), mask_rule=rule)).run()
    assert trainer._means[0].count == 2, "of 6 epochs the last 2 have the final mask"


@pytest.mark.parametrize(("average", "epochs"), [(0.0, 0), (0.1, 0), (0.25, 2), (0.5, 3), (0.9, 5)])
def test_training_averages_whole_epochs_and_never_one_alone(context: Context, average: float, epochs: int) -> None:
    assert averaging(context, average=average).averaged == epochs
