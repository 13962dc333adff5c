from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation, Ledger, Score, evaluate, evaluation_key
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context, Trainer, Training

CHOSEN = Hyperparameters(learning_rate=5e-3, batch_size=32)


def evaluation(trial: str = "a", iteration: int = 0, key: str = "k", repeated: bool = False) -> Evaluation:
    return Evaluation(
        sweep=Sweep.SAFS,
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


def training(context: Context, chosen: Hyperparameters = CHOSEN, epochs: int = 2, seed: int = 0) -> Training:
    return Training(context, chosen, epochs, seed)


def score(pruned: Result, context: Context, candidate: tuple[str, ...], chosen: Hyperparameters = CHOSEN) -> Score:
    return evaluate(pruned.network, [candidate], training(context, chosen))[0]


def test_an_evaluation_can_be_repeated_bit_for_bit(pruned: Result, context: Context) -> None:
    first, again = (score(pruned, context, ("tanh", "srs")) for _ in range(2))
    assert first.validation_accuracy == again.validation_accuracy
    assert first.cost == 1 - first.validation_accuracy
    assert first.core_seconds > 0


def test_candidates_are_told_apart(pruned: Result, context: Context) -> None:
    candidates = [("relu", "relu"), ("tanh", "srs"), ("logsigmoid", "logsigmoid"), ("symexp", "acon")]
    assert len({score(pruned, context, candidate).validation_accuracy for candidate in candidates}) > 1


def test_divergence_has_the_worst_finite_cost(pruned: Result, context: Context) -> None:
    wild = Hyperparameters(optimizer="sgd", learning_rate=10.0, momentum=0.99, batch_size=8)
    found = score(pruned, context, ("symexp", "symexp"), wild)
    assert found.diverged
    assert found.validation_accuracy == 0
    assert found.cost == 1


def test_key_sees_all_that_is_trained(pruned: Result, context: Context, configuration: Configuration) -> None:
    network, candidate = pruned.network, ("relu", "tanh")
    keys = {
        evaluation_key(network, candidate, training(context)),
        evaluation_key(network.assign(candidate), candidate, training(context)),
        evaluation_key(network, ("tanh", "relu"), training(context)),
        evaluation_key(network, candidate, training(context, configuration.pruning.hyperparameters)),
        evaluation_key(network, candidate, training(context, epochs=3)),
        evaluation_key(network, candidate, training(context, seed=1)),
    }
    assert len(keys) == 6
    assert evaluation_key(network, candidate, training(context)) in keys


def test_ledger_recalls_what_was_trained_and_keeps_a_step_once() -> None:
    first, repeat = evaluation(), evaluation("b", 3, repeated=True)
    ledger = Ledger([first, repeat, replace(first, validation_accuracy=0.1)])
    assert ledger.recall("k") == first
    assert ledger.recall("unknown") is None
    assert ledger.evaluations == [first, repeat]
    assert first in ledger
    assert evaluation("c") not in ledger


def test_a_score_of_what_is_known_costs_nothing_now() -> None:
    known = replace(evaluation(), epochs=4, curve=(0.5, 0.25, 0.75, 0.25), validation_accuracy=0.75)
    assert Score.of(known) == Score(0.75, False, 0.0, known.curve, repeated=True)
    broken = replace(evaluation(), epochs=4, curve=(0.5, 0.0), validation_accuracy=0.0, diverged=True)
    assert Score.of(broken) == Score(0.0, True, 0.0, broken.curve, repeated=True)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_score_is_the_highest_of_its_curve(pruned: Result, context: Context, epochs: int) -> None:
    found = evaluate(pruned.network, [("tanh", "srs")], training(context, epochs=epochs))[0]
    assert len(found.curve) == epochs
    assert found.validation_accuracy == max(found.curve)


def test_an_evaluation_that_was_interrupted_has_its_whole_curve(
    pruned: Result, context: Context, tmp_path: Path
) -> None:
    kept = training(replace(context, checkpoints=Checkpoints(Folder.at(tmp_path), seconds=0)), epochs=4)
    candidate = pruned.network.assign(("tanh", "srs"))
    Trainer([candidate], kept).run_epoch()
    found = evaluate(pruned.network, [("tanh", "srs")], kept)[0]
    assert found.curve == evaluate(pruned.network, [("tanh", "srs")], training(context, epochs=4))[0].curve
    assert Folder.at(tmp_path).names() == []


def test_ledger_does_not_recall_fine_tuning() -> None:
    assert Ledger([evaluation(key="")]).recall("") is None


@pytest.mark.parametrize("accuracy", [0.0, 0.25, 1.0])
def test_cost_is_what_accuracy_lacks(accuracy: float) -> None:
    assert Score(accuracy, False, 0.0).cost == 1 - accuracy
