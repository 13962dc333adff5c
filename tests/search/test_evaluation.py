from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safs_ray.config import Configuration, DataSection, Hyperparameters
from safs_ray.data import Splits
from safs_ray.search.evaluation import WORST_COST, Evaluation, Ledger, Score, evaluate, evaluation_key
from safs_ray.stages import Result
from safs_ray.training import Training

CHOSEN = Hyperparameters(learning_rate=5e-3, batch_size=32)


def evaluation(trial: str = "a", iteration: int = 0, key: str = "k", repeated: bool = False) -> Evaluation:
    return Evaluation(
        sweep="SAFS",
        trial=trial,
        iteration=iteration,
        phase="search",
        key=key,
        assignment=("relu",),
        hyperparameters="{}",
        epochs=1,
        seed=0,
        validation_accuracy=0.5,
        best_accuracy=0.5,
        cost=0.5,
        accepted=True,
        diverged=False,
        repeated=repeated,
        core_seconds=1.0,
    )


def training(splits: Splits, chosen: Hyperparameters = CHOSEN, epochs: int = 2, seed: int = 0) -> Training:
    return Training(splits, chosen, epochs, seed, torch.device("cpu"), DataSection())


def score(pruned: Result, splits: Splits, candidate: tuple[str, ...], chosen: Hyperparameters = CHOSEN) -> Score:
    return evaluate(pruned.network, [candidate], training(splits, chosen))[0]


def test_an_evaluation_can_be_repeated_bit_for_bit(pruned: Result, splits: Splits) -> None:
    first, again = (score(pruned, splits, ("tanh", "srs")) for _ in range(2))
    assert first.validation_accuracy == again.validation_accuracy
    assert first.cost == 1 - first.validation_accuracy
    assert first.core_seconds > 0


def test_candidates_are_told_apart(pruned: Result, splits: Splits) -> None:
    candidates = [("relu", "relu"), ("tanh", "srs"), ("logsigmoid", "logsigmoid"), ("symexp", "acon")]
    assert len({score(pruned, splits, candidate).validation_accuracy for candidate in candidates}) > 1


def test_divergence_has_the_worst_finite_cost(pruned: Result, splits: Splits) -> None:
    wild = Hyperparameters(optimizer="sgd", learning_rate=10.0, momentum=0.99, batch_size=8)
    found = score(pruned, splits, ("symexp", "symexp"), wild)
    assert found.diverged
    assert found.validation_accuracy == 0
    assert found.cost == WORST_COST == 1


def test_key_sees_all_that_is_trained(pruned: Result, splits: Splits, configuration: Configuration) -> None:
    network, candidate = pruned.network, ("relu", "tanh")
    keys = {
        evaluation_key(network, candidate, training(splits)),
        evaluation_key(network.assign(candidate), candidate, training(splits)),
        evaluation_key(network, ("tanh", "relu"), training(splits)),
        evaluation_key(network, candidate, training(splits, configuration.pruning.hyperparameters)),
        evaluation_key(network, candidate, training(splits, epochs=3)),
        evaluation_key(network, candidate, training(splits, seed=1)),
    }
    assert len(keys) == 6
    assert evaluation_key(network, candidate, training(splits)) in keys


def test_ledger_recalls_what_was_trained_and_keeps_a_step_once() -> None:
    first, repeat = evaluation(), evaluation("b", 3, repeated=True)
    ledger = Ledger([first, repeat, replace(first, validation_accuracy=0.1)])
    assert ledger.recall("k") == first
    assert ledger.recall("unknown") is None
    assert ledger.evaluations == [first, repeat]
    assert first in ledger
    assert evaluation("c") not in ledger


def test_ledger_does_not_recall_fine_tuning() -> None:
    assert Ledger([evaluation(key="")]).recall("") is None


@pytest.mark.parametrize("accuracy", [0.0, 0.25, 1.0])
def test_cost_is_what_accuracy_lacks(accuracy: float) -> None:
    assert Score(accuracy, False, 0.0).cost == 1 - accuracy
