from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, DataSection, Hyperparameters
from safs_ray.data import Splits
from safs_ray.search.evaluation import WORST_COST, Evaluation, Ledger, Score, evaluate, evaluation_key, never
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Trainer, Training

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


def test_ledger_recalls_what_was_trained_longest() -> None:
    short, long = evaluation(), replace(evaluation("b"), epochs=5)
    assert Ledger([short, long, evaluation("c")]).recall("k") == long
    assert Ledger([long, short]).recall("k") == long
    assert Ledger([short, replace(evaluation("d"), validation_accuracy=0.9)]).recall("k") == short


def known(epochs: int, *curve: float, diverged: bool = False) -> Evaluation:
    highest = 0.0 if diverged else max(curve)
    return replace(evaluation(), epochs=epochs, curve=curve, validation_accuracy=highest, diverged=diverged)


def test_a_known_evaluation_is_followed_as_far_as_it_would_be_trained() -> None:
    def second(curve: Sequence[float]) -> bool:
        return len(curve) == 2

    whole = known(4, 0.5, 0.25, 0.75, 0.25)
    assert Score.of(whole, 4, never) == Score(0.75, False, 0.0, whole.curve)
    assert Score.of(whole, 4, second) == Score(0.5, False, 0.0, (0.5, 0.25), stopped=True)
    early = known(2, 0.5, 0.25)
    assert Score.of(early, 4, second) == Score(0.5, False, 0.0, (0.5, 0.25), stopped=True)
    assert Score.of(early, 4, never) is None, "what it would have become is not known"
    assert Score.of(known(1, 0.5), 4, second) is None
    broken = known(4, 0.5, 0.0, diverged=True)
    assert Score.of(broken, 4, second) == Score.of(broken, 4, never) == Score(0.0, True, 0.0, broken.curve)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_training_ends_where_it_is_told(pruned: Result, splits: Splits, epochs: int) -> None:
    whole = evaluate(pruned.network, [("tanh", "srs")], training(splits, epochs=3))[0]
    found = evaluate(pruned.network, [("tanh", "srs")], training(splits, epochs=3), lambda curve: len(curve) == epochs)[
        0
    ]
    assert found.curve == whole.curve[:epochs]
    assert found.validation_accuracy == max(whole.curve[:epochs])
    assert (found.stopped, whole.stopped) == (epochs < 3, False)


def test_a_stopped_training_that_was_interrupted_has_its_whole_curve(
    pruned: Result, splits: Splits, tmp_path: Path
) -> None:
    kept = replace(training(splits, epochs=4), checkpoints=Checkpoints(Folder.at(tmp_path), seconds=0))
    candidate = pruned.network.assign(("tanh", "srs"))
    Trainer(candidate, kept).run_epoch()
    found = evaluate(pruned.network, [("tanh", "srs")], kept, lambda curve: len(curve) == 3)[0]
    assert found.curve == evaluate(pruned.network, [("tanh", "srs")], training(splits, epochs=4))[0].curve[:3]
    assert Folder.at(tmp_path).names() == []


def test_ledger_does_not_recall_fine_tuning() -> None:
    assert Ledger([evaluation(key="")]).recall("") is None


@pytest.mark.parametrize("accuracy", [0.0, 0.25, 1.0])
def test_cost_is_what_accuracy_lacks(accuracy: float) -> None:
    assert Score(accuracy, False, 0.0).cost == 1 - accuracy
