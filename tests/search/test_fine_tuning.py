from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Hyperparameters
from safs_ray.network import Network
from safs_ray.search.fine_tuning import FineTuning
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context, Trainer, Training

EPOCHS, STRETCH = 6, 2


@pytest.fixture
def network(pruned: Result) -> Network:
    return pruned.network.assign(("tanh", "srs"))


@pytest.fixture
def training(context: Context) -> Training:
    chosen = Hyperparameters(learning_rate=5e-3, batch_size=32, schedule="cosine")
    return Training(context, chosen, EPOCHS, seed=0, learn_scales=True)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(Folder.at(tmp_path), seconds=0)


def kept(training: Training, checkpoints: Checkpoints) -> Training:
    """The training with a checkpoint after every epoch."""
    return replace(training, context=replace(training.context, checkpoints=checkpoints))


def test_fine_tuning_in_stretches_is_one_training(network: Network, training: Training) -> None:
    tuned, whole = FineTuning(network, training, STRETCH), Trainer([network], training).run()
    assert [tuned.after(stretches).epoch for stretches in (1, 2, 3)] == [2, 4, 6]
    assert tuned.after(3).standing.curve == whole.standing.curve
    assert tuned.after(3).current().fingerprint == whole.current().fingerprint
    scales = tuned.after(3).standing.best.activations().values()
    assert all(site["alpha"] != 1 != site["beta"] for site in scales)


def test_fine_tuning_trains_no_epoch_again(network: Network, training: Training) -> None:
    tuned = FineTuning(network, training, STRETCH)
    first = tuned.after(2)
    assert tuned.after(2) is first
    assert first.epoch == 4
    assert tuned.after(3) is first
    assert first.epoch == 6


def test_fine_tuning_goes_on_from_its_checkpoint(
    network: Network, training: Training, checkpoints: Checkpoints
) -> None:
    expected = FineTuning(network, training, STRETCH).after(3).current().fingerprint
    FineTuning(network, kept(training, checkpoints), STRETCH).after(2)
    resumed = FineTuning(network, kept(training, checkpoints), STRETCH).after(3)
    assert resumed.core_seconds_before > 0, "what another process has spent"
    assert resumed.current().fingerprint == expected


def test_fine_tuning_begins_anew_where_its_checkpoint_is_younger_than_what_is_asked_for(
    network: Network, training: Training, checkpoints: Checkpoints
) -> None:
    expected = FineTuning(network, training, STRETCH).after(1).current().fingerprint
    FineTuning(network, kept(training, checkpoints), STRETCH).after(2)
    again = FineTuning(network, kept(training, checkpoints), STRETCH)
    assert again.after(1).epoch == 2
    assert again.after(1).current().fingerprint == expected
    assert again.after(1).core_seconds_before == 0


def test_fine_tuning_accounts_for_each_stretch_once(network: Network, training: Training) -> None:
    tuned = FineTuning(network, training, STRETCH)
    assert tuned.unaccounted == 0
    first = tuned.after(1).core_seconds
    assert tuned.unaccounted == first > 0
    tuned.account(first)
    assert tuned.unaccounted == 0
    second = tuned.after(2).core_seconds - first
    assert tuned.unaccounted == second > 0
    tuned.account(1e9)  # what is recorded of a slower machine
    assert tuned.unaccounted == 0


def test_fine_tuning_that_diverges_trains_no_further(network: Network, training: Training) -> None:
    wild = Hyperparameters(optimizer="sgd", learning_rate=10.0, momentum=0.99, batch_size=8)
    tuned = FineTuning(
        network.assign(("symexp", "symexp")), replace(training, hyperparameters=wild, epochs=40), stretch=20
    )
    assert tuned.after(2).diverged
    assert tuned.after(2).epoch < 40


def test_fine_tuning_forgets_its_checkpoint(network: Network, training: Training, checkpoints: Checkpoints) -> None:
    folder = checkpoints.folder
    tuned = FineTuning(network, kept(training, checkpoints), STRETCH)
    tuned.forget()
    assert folder.names() == []
    tuned.after(1)
    assert len(folder.names()) == 1
    tuned.forget()
    assert folder.names() == []
