from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from safs_ray import stages
from safs_ray.config import Configuration, validate
from safs_ray.data import Dataset, Folds
from safs_ray.experiment import FailedSearchError, Stage
from safs_ray.experiment.local import InProcess
from safs_ray.search.course import Sweep, joint, operators_only, scales_only
from safs_ray.search.space import nearest
from safs_ray.stages import Result
from safs_ray.training import Context
from tests.stages.altered import changed


@pytest.fixture
def executor(configuration: Configuration, dataset: Dataset, pruned: Result) -> InProcess:
    return InProcess(configuration, dataset, results={"pruned": pruned})


def test_in_process_every_stage_is_made_once_from_the_one_before_it(executor: InProcess, pruned: Result) -> None:
    seen: list[Result | None] = []

    def make(start: Result | None, _: Context) -> Result:
        seen.append(start)
        return replace(pruned, validation_accuracy=len(seen) / 8)

    first, second = Stage("first", 1, make), Stage("second", 1, make, start="first")
    made = executor.run([first, second])
    assert [result.validation_accuracy for result in made] == [0.125, 0.25]
    assert seen == [None, made[0]]
    assert executor.run([second, first]) == made[::-1]
    assert len(seen) == 2
    assert executor.result("second") is made[1]
    assert executor.run([Stage("pruned", 1, make)]) == [pruned], "what was there already is not made"


def test_in_process_a_stage_sees_the_images_of_its_fold(
    configuration: Configuration, dataset: Dataset, executor: InProcess, pruned: Result
) -> None:
    seen: list[Context] = []

    def make(_: Result | None, context: Context) -> Result:
        seen.append(context)
        return pruned

    executor.run(
        [
            Stage("search", 1, make),
            *(Stage(f"fold-{fold}", 1, make, images=partial(Folds.final, fold=fold)) for fold in (0, 1)),
        ]
    )
    folds = stages.folds(configuration, dataset)
    for context, splits in zip(seen, (folds.search(), folds.final(0), folds.final(1)), strict=True):
        assert context.configuration is configuration
        for mine, other in ((context.splits.train, splits.train), (context.splits.validation, splits.validation)):
            assert mine.inputs.equal(other.inputs)


def test_in_process_all_that_follows_has_the_logits_of_a_teacher(
    executor: InProcess, dataset: Dataset, dense: Result, pruned: Result, context: Context
) -> None:
    seen: list[Context] = []

    def make(_: Result | None, context: Context) -> Result:
        seen.append(context)
        return pruned

    executor.keep("dense", dense)
    executor.run([Stage("before", 1, make)])
    executor.teach("dense")
    executor.run([Stage("search", 1, make), Stage("last", 1, make, images=partial(Folds.final, fold=1))])
    assert [context.splits.train.taught is None for context in seen] == [True, False, False]
    logits = stages.teach(dense, dataset.pool, context)
    folds = stages.folds(context.configuration, dataset.taught(logits))
    for each, splits in zip(seen[1:], (folds.search(), folds.final(1)), strict=True):
        assert each.splits.train.taught is not None
        assert splits.train.taught is not None
        assert each.splits.train.taught.equal(splits.train.taught)


def test_in_process_the_trials_of_a_sweep_have_hyperparameters_of_their_own(
    configuration: Configuration, executor: InProcess
) -> None:
    outcomes = executor.sweep(joint(configuration), "pruned", None)
    assert [outcome.trial for outcome in outcomes] == ["trial-1", "trial-2", "trial-3"]
    chosen = [outcome.recipe.hyperparameters for outcome in outcomes]
    assert chosen[0] == nearest(configuration.pruning.hyperparameters, configuration.tune.space)
    assert len(set(chosen)) == 3
    evaluations = executor.evaluations()
    assert len(evaluations) == 3 * 6
    for outcome in outcomes:
        last = [step for step in evaluations if step.trial == outcome.trial][-1]
        assert outcome.accuracy == last.best_accuracy
        assert outcome.recipe.assignment == last.assignment
        assert outcome.recipe.learn_scales


def test_in_process_chains_of_stage_1_have_the_default_hyperparameters(
    configuration: Configuration, dataset: Dataset, pruned: Result
) -> None:
    staged = changed(configuration, "search", protocol="staged", chains=2)
    executor = InProcess(staged, dataset, results={"pruned": pruned})
    outcomes = executor.sweep(operators_only(staged), "pruned", None)
    assert [outcome.trial for outcome in outcomes] == ["chain-1", "chain-2"]
    assert {outcome.recipe.hyperparameters for outcome in outcomes} == {staged.pruning.hyperparameters}
    assert not any(outcome.recipe.learn_scales for outcome in outcomes)
    assert executor.evaluations()[4].repeated, "both begin at the same place"


def test_in_process_a_sweep_begins_with_the_assignment_that_it_is_given(
    configuration: Configuration, executor: InProcess
) -> None:
    outcomes = executor.sweep(scales_only(configuration, Sweep.SAFS), "pruned", ("tanh", "srs"))
    assert {outcome.recipe.assignment for outcome in outcomes} == {("tanh", "srs")}


def test_in_process_a_new_trial_may_start_from_the_best_of_those_before(
    configuration: Configuration, dataset: Dataset, pruned: Result
) -> None:
    sharing = changed(configuration, "search", share="best")
    executor = InProcess(sharing, dataset, results={"pruned": pruned})
    executor.sweep(joint(sharing), "pruned", None)
    steps = [step for step in executor.evaluations() if step.phase == "search"]
    for number in (1, 2):
        before = steps[: 4 * number]
        assert steps[4 * number].assignment == min(before, key=lambda step: step.cost).assignment


def test_in_process_a_trial_whose_fine_tuning_diverges_has_found_nothing(
    configuration: Configuration, dataset: Dataset, pruned: Result
) -> None:
    values = configuration.model_dump(mode="json")
    values["search"] |= {"operators": ["symexp", "elu"], "steps": 1}
    values["finetune"] |= {"epochs": 40, "epochs_per_step": 20}
    values["tune"]["space"]["optimizers"] = ["sgd"]
    values["tune"]["space"]["sgd"] |= {"learning_rate": [10, 10], "momentum": [0.99, 0.99]}
    wild = validate(values)
    symbolic = replace(pruned, network=pruned.network.assign(["symexp", "symexp"]))
    executor = InProcess(wild, dataset, results={"pruned": symbolic})
    with pytest.raises(FailedSearchError, match=r"^SAFS: none of 3 trials reached its end$"):
        executor.sweep(joint(wild), "pruned", None)
    assert [step.phase for step in executor.evaluations()] == ["search", "fine-tuning"] * 3


def test_in_process_what_is_kept_is_a_result(executor: InProcess, pruned: Result) -> None:
    executor.keep("best", pruned)
    executor.discard("finalists/SAFS", but=[])
    assert executor.result("best") is pruned
