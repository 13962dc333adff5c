from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safs_ray import config, experiment
from safs_ray.config import Configuration, Hyperparameters
from safs_ray.data import Dataset
from safs_ray.experiment import FailedSearchError, Outcome
from safs_ray.experiment.experiment import log_survey
from safs_ray.experiment.local import InProcess
from safs_ray.experiment.progress import Clock
from safs_ray.experiment.results import Finalists, spread, won_by_default
from safs_ray.models import Specification
from safs_ray.pruning.flow import Survey
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.recipe import Recipe
from safs_ray.stages import Result
from safs_ray.storage import Folder
from tests.conftest import TINY
from tests.experiment.executors import Beaten, Recorded, Searched, Unbeaten
from tests.stages.altered import changed


def configured(*words: str) -> Configuration:
    return config.validate(config.overridden(TINY, words))


def untimed(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    return [replace(evaluation, core_seconds=0.0) for evaluation in evaluations]


def names(results: dict[str, Any]) -> list[str]:
    return [row["name"] for row in results["rows"]]


def recipe_of(step: Evaluation) -> Recipe:
    return Recipe(step.assignment, Hyperparameters.model_validate_json(step.hyperparameters), learn_scales=True)


def accuracies_of(finalists: Finalists) -> dict[str, dict[str, Any]]:
    return {
        sweep: {trial: known["validation_accuracy"] for trial, known in trials.items()}
        for sweep, trials in finalists.items()
    }


@pytest.fixture
def ready(dense: Result, pruned: Result) -> dict[str, Result]:
    """What the default configuration makes before any search."""
    return {"dense": dense, "pruned": pruned}


def test_an_experiment_goes_from_dense_training_to_its_table(
    configuration: Configuration, dataset: Dataset, specification: Specification, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "safs_ray")
    executor = Beaten(configuration, dataset)
    results = experiment.run(configuration, specification, executor)
    again = [f"finalists/SAFS/{trial}/seed-{seed}" for seed in (0, 1) for trial in results["finalists"]["SAFS"]]
    last = [f"final/{row}/fold-{fold}" for fold in (0, 1) for row in ("pruned", "SAFS")]
    assert list(executor.stages) == ["dense", "pruned", *again, *last, "final/dense/fold-0"]
    assert [name for name, stage in executor.stages.items() if stage.tests] == [*last, "final/dense/fold-0"]
    assert executor.sweeps == {Sweep.SAFS: ("pruned", None)}
    assert executor.kept == ["best"]

    assert names(results) == ["dense", "pruned", "SAFS"]
    for row in results["rows"]:
        count = 1 if row["name"] == "dense" else 2
        folds = [executor.result(f"final/{row['name']}/fold-{fold}") for fold in range(count)]
        assert row["validation_accuracy"] == spread([fold.validation_accuracy for fold in folds])
        assert row["test_accuracy"] == spread([fold.test_accuracy for fold in folds if fold.test_accuracy is not None])
    safs = [executor.result(f"final/SAFS/fold-{fold}") for fold in (0, 1)]
    best = executor.result("best")
    assert best is max(safs, key=lambda result: result.validation_accuracy)
    assert results["assignment"] == best.network.activations()
    trained = [step for step in executor.evaluations() if step.phase == "search" and not step.repeated]
    assert results["search"]["evaluations"] == len(trained)
    assert results["finished"]
    assert caplog.messages[0] == "dense training, pruning and retraining"
    told = [line for line in caplog.messages if " epoch " not in line and " step " not in line]
    assert told[-1] == "final evaluation, 2 folds"


def test_an_experiment_without_a_search_ends_with_the_pruned_network(
    configuration: Configuration, dataset: Dataset, specification: Specification
) -> None:
    alone = changed(configuration, "search", steps=0)
    executor = Recorded(alone, dataset)
    results = experiment.run(alone, specification, executor)
    last = [f"final/pruned/fold-{fold}" for fold in (0, 1)]
    assert list(executor.stages) == ["dense", "pruned", *last, "final/dense/fold-0"]
    assert executor.sweeps == {}
    assert names(results) == ["dense", "pruned"]
    best = executor.result("best").network
    assert best.fingerprint in {executor.result(name).network.fingerprint for name in last}
    assert {each["operator"] for each in results["assignment"].values()} == {"relu"}
    assert results["finalists"] == {}
    assert results["search"]["trials"] == 0


def test_an_experiment_in_process_repeats_bit_for_bit(
    configuration: Configuration, dataset: Dataset, specification: Specification, ready: dict[str, Result]
) -> None:
    runs = [InProcess(configuration, dataset, results=ready) for _ in range(2)]
    first, second = (experiment.run(configuration, specification, executor) for executor in runs)
    assert untimed(runs[0].evaluations()) == untimed(runs[1].evaluations())
    assert runs[0].result("best").network.fingerprint == runs[1].result("best").network.fingerprint
    assert first["hyperparameters"] == second["hyperparameters"]


def test_an_experiment_that_is_done_does_nothing_again(
    configuration: Configuration, dataset: Dataset, specification: Specification, ready: dict[str, Result]
) -> None:
    """With the outcomes of its sweep, which another part of the executor keeps."""
    first = Recorded(configuration, dataset, ready)
    results = experiment.run(configuration, specification, first)
    outcomes = [
        Outcome(step.trial, recipe_of(step), step.best_accuracy) for step in first.evaluations() if step.iteration == 5
    ]
    done = {name: first.result(name) for name in first.stages}
    second = Searched(configuration, dataset, done, outcomes)
    again = experiment.run(configuration, specification, second)
    assert {name: second.result(name) for name in second.stages} == done
    assert again["assignment"] == results["assignment"]
    assert names(again) == names(results)


@pytest.mark.parametrize("protocol", ["joint", "staged"])
def test_an_experiment_whose_search_finds_nothing_better_has_the_pruned_row_in_its_place(
    dataset: Dataset, specification: Specification, ready: dict[str, Result], protocol: str
) -> None:
    chosen = configured(f"search.protocol={protocol}", "final.ablations=[stage 1, stage 2]")
    executor = Unbeaten(chosen, dataset, ready)
    results = experiment.run(chosen, specification, executor)
    _, pruned, *others = results["rows"]
    assert len(others) == 3
    for row in others:
        same = ("validation_accuracy", "test_accuracy", "sparsity", "nonzero_weights")
        assert {key: row[key] for key in same} == {key: pruned[key] for key in same}
        for fold in (0, 1):
            stage = executor.stages[f"final/{row['name']}/fold-{fold}"]
            assert (stage.start, stage.epochs) == (f"final/pruned/fold-{fold}", 0), "it is not trained twice"
    assert {site["operator"] for site in results["assignment"].values()} == {"relu"}
    assert won_by_default(results["finalists"], Sweep.SAFS)


@pytest.fixture(scope="module")
def staged(
    dataset: Dataset, specification: Specification, dense: Result, pruned: Result
) -> tuple[Recorded, dict[str, Any]]:
    """Protocol staged with every row."""
    chosen = configured("search.protocol=staged", "search.chains=2", "final.ablations=[stage 1, stage 2]")
    executor = Beaten(chosen, dataset, {"dense": dense, "pruned": pruned})
    return executor, experiment.run(chosen, specification, executor)


def test_an_experiment_of_protocol_staged_searches_operators_then_hyperparameters(
    staged: tuple[Recorded, dict[str, Any]],
) -> None:
    executor, results = staged
    by_sweep: dict[str, list[Evaluation]] = {sweep: [] for sweep in ("stage 1", "SAFS", "stage 2")}
    for step in executor.evaluations():
        by_sweep[step.sweep].append(step)
    assert {(step.trial, step.phase) for step in by_sweep["stage 1"]} == {("chain-1", "search"), ("chain-2", "search")}
    for sweep in ("SAFS", "stage 2"):
        assert {(step.trial, step.phase) for step in by_sweep[sweep]} == {
            (f"trial-{number}", "fine-tuning") for number in (1, 2, 3)
        }
    (found,) = {step.assignment for step in by_sweep["SAFS"]}
    assert list(executor.sweeps.items()) == [
        (Sweep.OPERATORS, ("pruned", None)),
        (Sweep.SAFS, ("pruned", found)),
        (Sweep.SCALES, ("pruned", None)),
    ]
    assert list(results["finalists"]) == ["stage 1", "SAFS", "stage 2"]
    chains = [[step for step in by_sweep["stage 1"] if step.trial == f"chain-{number}"] for number in (1, 2)]
    assert found in {max(chain, key=lambda step: step.validation_accuracy).assignment for chain in chains}


def test_an_experiment_has_the_rows_of_its_ablations(staged: tuple[Recorded, dict[str, Any]]) -> None:
    executor, results = staged
    assert names(results) == ["dense", "pruned", "stage 1", "stage 2", "SAFS"]
    (found,) = {step.assignment for step in executor.evaluations() if step.sweep is Sweep.SAFS}
    networks = {row: executor.result(f"final/{row}/fold-1").network for row in names(results)[1:]}
    assert {row: network.assignment for row, network in networks.items()} == {
        "pruned": ("relu", "relu"), "stage 1": found, "stage 2": ("relu", "relu"), "SAFS": found,
    }  # fmt: skip
    learned = {row: {site["alpha"] for site in network.activations().values()} for row, network in networks.items()}
    assert learned["pruned"] == learned["stage 1"] == {1.0}
    assert 1.0 not in learned["stage 2"] | learned["SAFS"]
    default = configured().pruning.hyperparameters.model_dump()
    chosen = {"pruned": default, "stage 1": default, "SAFS": results["hyperparameters"]}
    for row, hyperparameters in chosen.items():
        recipe = executor.stages[f"final/{row}/fold-0"].recipe
        assert recipe is not None
        assert recipe.hyperparameters.model_dump() == hyperparameters


@pytest.mark.parametrize("protocol", ["joint", "staged"])
def test_an_experiment_that_searches_before_pruning_prunes_with_what_it_found(
    dataset: Dataset, specification: Specification, dense: Result, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "safs_ray")
    chosen = configured(
        "search.when=before", f"search.protocol={protocol}", "search.start=random", "search.operators=[swish, tanh]",
        "final.ablations=[stage 1, stage 2]", "tune.trials=2",
    )  # fmt: skip
    executor = Beaten(chosen, dataset, {"dense": dense})
    results = experiment.run(chosen, specification, executor)
    own, found, best = (executor.result(name).network for name in ("pruned", "pruned-found", "best"))
    assert own.assignment == ("relu", "relu")
    assert found.assignment == best.assignment
    assert set(best.assignment) <= {"swish", "tanh"}
    starts = {row: executor.stages[f"final/{row}/fold-0"].start for row in names(results)[1:]}
    assert starts == {"pruned": "pruned", "stage 1": "pruned-found", "stage 2": "pruned", "SAFS": "pruned-found"}
    for name, mask in found.masks.items():
        assert best.masks[name].equal(mask)
        assert executor.result("final/stage 1/fold-0").network.masks[name].equal(mask)
        assert executor.result("final/stage 2/fold-0").network.masks[name].equal(own.masks[name])
    assert executor.sweeps[Sweep.SCALES] == ("pruned", None)
    if protocol == "joint":
        assert executor.sweeps[Sweep.SAFS] == ("dense", None)
    else:
        assert executor.sweeps[Sweep.OPERATORS] == ("dense", None)
        assert executor.sweeps[Sweep.SAFS] == ("pruned-found", found.assignment)
    assert caplog.messages.count("pruning and retraining with the assignment that was found") == 1


def test_an_experiment_that_prunes_while_it_searches_ends_with_sparse_networks(
    dataset: Dataset, specification: Specification, dense: Result, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "safs_ray")
    chosen = configured(
        "search.when=during", "pruning.schedule=gradual", "pruning.interval=1", "pruning.allocation=global",
        "search.epochs=2", "tune.trials=2",
    )  # fmt: skip
    executor = Recorded(chosen, dataset, {"dense": dense})
    results = experiment.run(chosen, specification, executor)
    total = dense.network.prunable_count
    assert executor.result("pruned").network.nonzero_weights == total
    assert [row["nonzero_weights"] for row in results["rows"]] == [total, *[total - round(0.9 * total)] * 2]
    assert caplog.messages[-1] == executor.result("best").network.survey.summary, "what is left is known at the end"


def test_an_experiment_with_a_pruned_network_has_no_dense_row(
    dataset: Dataset, specification: Specification, pruned: Result
) -> None:
    given = changed(configured(), "model", weights="w.pt", pruned=True)
    executor = Recorded(given, dataset, {"pruned": replace(pruned, core_seconds=0.0)})
    results = experiment.run(given, specification, executor)
    assert names(results) == ["pruned", "SAFS"]
    assert not {"dense", "pruned", "final/dense/fold-0"} & set(executor.stages)
    for row in results["rows"]:
        assert row["nonzero_weights"] == pruned.network.nonzero_weights


def test_an_experiment_with_a_dense_network_begins_by_pruning_it(
    dataset: Dataset, specification: Specification, dense: Result, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "safs_ray")
    given = changed(configured("tune.trials=1", "final.folds=1"), "model", weights="w.pt")
    executor = Recorded(given, dataset, {"dense": dense})
    assert names(experiment.run(given, specification, executor)) == ["dense", "pruned", "SAFS"]
    assert executor.stages["dense"].epochs == 0
    assert caplog.messages[0] == "pruning and retraining"


def test_an_experiment_none_of_whose_trials_reaches_its_end_fails(
    dataset: Dataset, specification: Specification, ready: dict[str, Result]
) -> None:
    wild = configured(
        "search.operators=[symexp, elu]", "search.start=random", "search.steps=1", "finetune.epochs=40",
        "finetune.epochs_per_step=20", "tune.trials=1", "tune.space.optimizers=[sgd]",
        "tune.space.sgd.learning_rate=[10, 10]", "tune.space.sgd.momentum=[0.99, 0.99]",
    )  # fmt: skip
    executor = Recorded(wild, dataset, ready)
    with pytest.raises(FailedSearchError, match=r"^SAFS: none of 1 trial reached its end$"):
        experiment.run(wild, specification, executor)
    assert not any(stage.tests for stage in executor.stages.values()), "no test image is read"


def test_tell_says_what_pruning_has_left_and_warns_of_emptied_layers(caplog: pytest.LogCaptureFixture) -> None:
    counts = {"conv.weight": 0, "fc.weight": 8}
    with caplog.at_level(logging.INFO, "safs_ray"):
        log_survey(Survey({**counts, "conv.weight": 1}, {"conv.weight": 10, "fc.weight": 10}, 3, 4))
        log_survey(Survey(counts, {"conv.weight": 10, "fc.weight": 10}, 2, 4))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "INFO",
            "9 of 20 weights are left, least in conv.weight (1 of 10); "
            "3 of 4 outputs can still be reached from the inputs",
        ),
        (
            "INFO",
            "8 of 20 weights are left, least in conv.weight (0 of 10); "
            "2 of 4 outputs can still be reached from the inputs",
        ),
        (
            "WARNING",
            "warning: pruning has emptied conv.weight; 2 of 4 outputs can still be reached from the inputs",
        ),
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="joint"),
        pytest.param(
            ["search.protocol=staged", "search.chains=2", "search.when=before", "final.ablations=[stage 1, stage 2]"],
            id="staged before pruning",
        ),
    ],
)
def test_an_experiment_in_process_equals_that_on_ray(
    dataset: Dataset, specification: Specification, tmp_path: Path, words: list[str]
) -> None:
    """With one trial at a time, so that each is proposed after the same others have ended, and none that is stopped."""
    from safs_ray.tune.executor import OnRay

    chosen = configured("tune.scheduler=none", "tune.resources.gpu=0", *words)
    local, distributed = InProcess(chosen, dataset), OnRay(chosen, dataset, Folder.at(tmp_path), Clock({}))
    mine, other = (experiment.run(chosen, specification, executor) for executor in (local, distributed))
    assert untimed(local.evaluations()) == untimed(distributed.evaluations())
    assert local.result("best").network.fingerprint == distributed.result("best").network.fingerprint
    for key in ("assignment", "hyperparameters", "groups"):
        assert mine[key] == other[key]
    for row, same in zip(mine["rows"], other["rows"], strict=True):
        assert {**row, "core_seconds": 0} == {**same, "core_seconds": 0}
    assert accuracies_of(mine["finalists"]) == accuracies_of(other["finalists"])


class Taught(Recorded):
    """Keeps what was there when the teacher was named."""

    def teach(self, name: str) -> None:
        self.kept.append(f"{name} after {','.join(self.stages)}")
        super().teach(name)


def test_experiment_with_distillation_has_its_teacher_before_anything_is_pruned(
    dataset: Dataset, specification: Specification
) -> None:
    words = ("training.distillation.share=0.5", "tune.trials=1", "final.folds=1", "final.epochs=1")
    executor = Taught(configured(*words), dataset)
    assert experiment.run(configured(*words), specification, executor)["finished"]
    assert executor.kept[0] == "dense after dense"
    plain = Taught(configured(*words[1:]), dataset)
    experiment.run(configured(*words[1:]), specification, plain)
    assert not [name for name in plain.kept if name.startswith("dense")]
    assert plain.result("pruned").network.fingerprint != executor.result("pruned").network.fingerprint
    assert plain.result("dense").network.fingerprint == executor.result("dense").network.fingerprint
