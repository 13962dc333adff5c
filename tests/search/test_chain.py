from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, Hyperparameters, validate
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Chain
from safs_ray.search.course import Course, Sweep, joint, operators_only, scales_only
from safs_ray.search.evaluation import Claimed, Evaluation, Ledger, Score, evaluate
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import Context, Training

CHOSEN = Hyperparameters(learning_rate=5e-3, batch_size=32)


def chain(
    pruned: Result,
    splits: Splits,
    configuration: Configuration,
    chosen: Hyperparameters = CHOSEN,
    course: Course | None = None,
    ledger: Ledger | None = None,
    trial: str = "a",
    checkpoints: Checkpoints | None = None,
    start: Assignment | None = None,
) -> tuple[Chain, Ledger]:
    ledger = Ledger() if ledger is None else ledger
    context = Context(configuration, splits, checkpoints=checkpoints)
    steps = course or joint(configuration)
    return Chain(pruned.network, context, chosen, ledger, steps, trial, start), ledger


def steps(running: Chain) -> list[Evaluation]:
    made = []
    while not running.finished:
        made.append(running.step())
    return made


def untimed(evaluations: list[Evaluation]) -> list[Evaluation]:
    return [replace(evaluation, core_seconds=0.0) for evaluation in evaluations]


def test_searches_then_fine_tunes_the_best(pruned: Result, splits: Splits, configuration: Configuration) -> None:
    running, ledger = chain(pruned, splits, configuration)
    made = steps(running)
    assert [evaluation.phase for evaluation in made] == ["search"] * 4 + ["fine-tuning"] * 2
    assert [evaluation.iteration for evaluation in made] == list(range(6))
    assert made == ledger.evaluations
    assert made[0].assignment == pruned.network.assignment, "the start is the network's own assignment"
    best = max(made[:4], key=lambda evaluation: evaluation.validation_accuracy)
    assert made[4].assignment == made[5].assignment == best.assignment == running.network().assignment
    assert made[3].best_accuracy == best.validation_accuracy
    assert made[5].best_accuracy == max(evaluation.best_accuracy for evaluation in made[4:])
    assert [evaluation.epochs for evaluation in made] == [1, 1, 1, 1, 2, 2]


def side_by_side(configuration: Configuration, **search: object) -> Configuration:
    """With networks that can be trained side by side."""
    values = configuration.model_dump(mode="json")
    values["search"] |= search
    values["run"]["execution"] = "sparse"
    return validate(values)


@pytest.mark.parametrize("strategy", [{"strategy": "random"}, {"lahc": {"walks": 3}}, {"strategy": "genetic"}])
def test_candidates_side_by_side_are_the_steps_of_one_at_a_time(
    pruned: Result,
    splits: Splits,
    configuration: Configuration,
    strategy: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = side_by_side(configuration, **strategy, steps=8)
    sizes: list[int] = []

    def counted(network: Network, candidates: Sequence[Assignment], training: Training) -> list[Score]:
        sizes.append(len(candidates))
        return evaluate(network, candidates, training)

    monkeypatch.setattr("safs_ray.search.evaluator.evaluate", counted)
    course = operators_only(changed)
    together = steps(chain(pruned, splits, changed, course=course)[0])
    assert max(sizes) > 1
    monkeypatch.setattr("safs_ray.search.evaluator.COHORT", 1)
    sizes.clear()
    assert untimed(steps(chain(pruned, splits, changed, course=course)[0])) == untimed(together)
    assert set(sizes) == {1}


def test_what_was_trained_ahead_and_is_not_wanted_is_left_to_others(
    pruned: Result, splits: Splits, configuration: Configuration
) -> None:
    class Claims(Ledger):
        def __init__(self) -> None:
            super().__init__()
            self.held: set[str] = set()

        def claim(self, key: str) -> Claimed:
            self.held.add(key)
            return super().claim(key)

        def release(self, key: str) -> None:
            self.held.discard(key)

    changed, claims = side_by_side(configuration, strategy="random", steps=6), Claims()
    running, _ = chain(pruned, splits, changed, course=operators_only(changed), ledger=claims)
    running.step()
    running.step()
    assert claims.held
    running.give_up()
    assert claims.held <= {evaluation.key for evaluation in claims.evaluations}


@pytest.mark.parametrize("own", ["default", "random"])
def test_a_chain_starts_where_it_is_told(
    pruned: Result, splits: Splits, configuration: Configuration, own: str
) -> None:
    section = configuration.search.model_copy(update={"start": own})
    changed = configuration.model_copy(update={"search": section})
    running, _ = chain(pruned, splits, changed, start=("tanh", "srs"))
    assert running.step().assignment == ("tanh", "srs")


def test_fine_tuning_learns_scales_from_the_pruned_weights(
    pruned: Result, splits: Splits, configuration: Configuration
) -> None:
    running, _ = chain(pruned, splits, configuration)
    steps(running)
    network = running.network()
    assert all(activation["alpha"] != 1 for activation in network.activations().values())
    assert network.nonzero_weights == pruned.network.nonzero_weights
    for name, mask in network.masks.items():
        assert (network.state[name][~mask] == 0).all()


@pytest.mark.parametrize("done", range(7))
@pytest.mark.parametrize("strategy", ["lahc", "genetic"])
def test_a_chain_begun_again_equals_an_uninterrupted_one(
    pruned: Result, splits: Splits, configuration: Configuration, done: int, strategy: str
) -> None:
    section = configuration.search.model_copy(update={"strategy": strategy})
    changed = configuration.model_copy(update={"search": section})
    whole, _ = chain(pruned, splits, changed)
    expected = untimed(steps(whole))
    first, ledger = chain(pruned, splits, changed)
    kept = [first.step() for _ in range(done)]
    second, _ = chain(pruned, splits, changed, ledger=ledger)
    assert second.replaying == (done > 0)
    assert steps(second)[:done] == kept, "the time they took included: they are read, not made"
    assert untimed(ledger.evaluations) == expected
    assert second.network().fingerprint == whole.network().fingerprint


def test_steps_that_were_lost_are_taken_again(pruned: Result, splits: Splits, configuration: Configuration) -> None:
    whole, ledger = chain(pruned, splits, configuration)
    expected = steps(whole)
    holes = Ledger([evaluation for evaluation in ledger.evaluations if evaluation.iteration not in (1, 4)])
    again, _ = chain(pruned, splits, configuration, ledger=holes)
    assert untimed(steps(again)) == untimed(expected)
    assert len(holes.evaluations) == len(expected)


def test_a_record_of_other_settings_is_no_step_of_the_chain(
    pruned: Result, splits: Splits, configuration: Configuration
) -> None:
    first, _ = chain(pruned, splits, configuration)
    other = Ledger([replace(first.step(), assignment=("srs", "srs"))])
    again, _ = chain(pruned, splits, configuration, ledger=other)
    with pytest.raises(RuntimeError, match="step 1 of a is recorded as srs,srs, but the strategy proposes relu,relu"):
        again.step()


@pytest.mark.parametrize("lost", [0, 1])
def test_fine_tuning_goes_on_from_its_checkpoint(
    pruned: Result, splits: Splits, configuration: Configuration, tmp_path: Path, lost: int
) -> None:
    """The checkpoint is as old as the last record, or younger by one when that record was lost."""
    whole, _ = chain(pruned, splits, configuration)
    expected = untimed(steps(whole))
    checkpoints = Checkpoints(Folder.at(tmp_path), seconds=0)
    first, ledger = chain(pruned, splits, configuration, checkpoints=checkpoints)
    for _ in range(5):
        first.step()
    kept = Ledger(ledger.evaluations[: 5 - lost])
    second, _ = chain(pruned, splits, configuration, ledger=kept, checkpoints=checkpoints)
    assert untimed(steps(second)) == expected
    assert second.network().fingerprint == whole.network().fingerprint
    assert Folder.at(tmp_path).names() == [], "states of trainings that are done take no room"


@pytest.mark.parametrize("done", [0, 3, 7, 12])
def test_a_chain_with_a_predictor_begun_again_equals_an_uninterrupted_one(
    pruned: Result, splits: Splits, configuration: Configuration, done: int
) -> None:
    section = configuration.search.model_copy(update={"steps": 14, "predictor": "linear"})
    changed = configuration.model_copy(update={"search": section})
    course = operators_only(changed)
    expected = untimed(steps(chain(pruned, splits, changed, course=course)[0]))
    first, ledger = chain(pruned, splits, changed, course=course)
    for _ in range(done):
        first.step()
    second, _ = chain(pruned, splits, changed, course=course, ledger=ledger)
    assert untimed(steps(second)) == expected


def test_what_others_know_saves_trainings_and_changes_nothing_else(
    pruned: Result, splits: Splits, configuration: Configuration
) -> None:
    course = operators_only(configuration)
    expected = steps(chain(pruned, splits, configuration, course=course)[0])
    memory = Ledger([replace(each, sweep=Sweep.SAFS) for each in expected])
    served = steps(chain(pruned, splits, configuration, course=course, ledger=memory)[0])
    assert all(each.repeated for each in served)
    assert served == [replace(each, repeated=True, core_seconds=0.0) for each in expected]


def test_another_chain_is_served_from_memory(pruned: Result, splits: Splits, configuration: Configuration) -> None:
    first, ledger = chain(pruned, splits, configuration)
    trained = first.step()
    again, _ = chain(pruned, splits, configuration, ledger=ledger, trial="another")
    served = again.step()
    assert served.repeated
    assert served.core_seconds == 0
    assert served.validation_accuracy == trained.validation_accuracy
    assert len(ledger.evaluations) == 2


def test_random_start_follows_from_the_trial(pruned: Result, splits: Splits, configuration: Configuration) -> None:
    section = configuration.search.model_copy(update={"start": "random"})
    changed = configuration.model_copy(update={"search": section})
    starts = {chain(pruned, splits, changed, trial=name)[0].strategy.ask() for name in "abcdef"}
    assert len(starts) > 1
    one, other = (chain(pruned, splits, changed)[0].strategy.ask() for _ in range(2))
    assert one == other


def test_stage_1_only_searches(pruned: Result, splits: Splits, configuration: Configuration) -> None:
    running, _ = chain(pruned, splits, configuration, course=operators_only(configuration))
    made = steps(running)
    assert [(evaluation.sweep, evaluation.phase) for evaluation in made] == [("stage 1", "search")] * 4
    best = max(made, key=lambda evaluation: evaluation.validation_accuracy)
    assert running.network().fingerprint == pruned.network.assign(best.assignment).fingerprint


def test_stage_2_only_fine_tunes_what_it_is_given(pruned: Result, splits: Splits, configuration: Configuration) -> None:
    section = configuration.search.model_copy(update={"start": "random"})
    changed = configuration.model_copy(update={"search": section})
    given = replace(pruned, network=pruned.network.assign(["tanh", "srs"]))
    running, _ = chain(given, splits, changed, course=scales_only(changed, Sweep.SAFS))
    made = steps(running)
    assert [(evaluation.sweep, evaluation.phase) for evaluation in made] == [("SAFS", "fine-tuning")] * 2
    assert {evaluation.assignment for evaluation in made} == {("tanh", "srs")}
    assert running.network().assignment == ("tanh", "srs")
    assert all(activation["alpha"] != 1 for activation in running.network().activations().values())


def test_both_protocols_take_the_same_steps_with_the_default_hyperparameters(
    pruned: Result, splits: Splits, configuration: Configuration
) -> None:
    whole, _ = chain(pruned, splits, configuration)
    steps(whole)
    first, ledger = chain(pruned, splits, configuration, course=operators_only(configuration))
    steps(first)
    found = replace(pruned, network=first.network())
    second, _ = chain(found, splits, configuration, course=scales_only(configuration, Sweep.SAFS), ledger=ledger)
    steps(second)
    assert second.network().fingerprint == whole.network().fingerprint


@pytest.mark.parametrize("start", ["default", "random"])
def test_one_operator_for_the_whole_network(
    pruned: Result, splits: Splits, configuration: Configuration, start: str
) -> None:
    section = configuration.search.model_copy(update={"granularity": "network", "start": start})
    running, ledger = chain(pruned, splits, configuration.model_copy(update={"search": section}))
    assert all(len(evaluation.assignment) == 2 for evaluation in steps(running))
    assert all(len(set(evaluation.assignment)) == 1 for evaluation in ledger.evaluations)
    assert len({evaluation.assignment for evaluation in ledger.evaluations}) > 1
    assert running.network().assignment == running.best == ledger.evaluations[-1].assignment


def test_the_one_operator_begins_as_the_most_frequent_default(
    pruned: Result, splits: Splits, configuration: Configuration
) -> None:
    section = configuration.search.model_copy(update={"granularity": "network"})
    mixed = replace(pruned, network=pruned.network.grouped(2).assign(["swish", "tanh", "srs", "tanh"]))
    running, _ = chain(mixed, splits, configuration.model_copy(update={"search": section}))
    assert running.best == ("tanh",) * 4


def test_divergence_in_fine_tuning_ends_the_chain(pruned: Result, splits: Splits, configuration: Configuration) -> None:
    wild = Hyperparameters(optimizer="sgd", learning_rate=10.0, momentum=0.99, batch_size=8)
    section = configuration.search.model_copy(update={"steps": 1})
    finetune = configuration.finetune.model_copy(update={"epochs": 40, "epochs_per_step": 2})
    changed = configuration.model_copy(update={"search": section, "finetune": finetune})
    start = replace(pruned, network=pruned.network.assign(["symexp", "symexp"]))
    running, _ = chain(start, splits, changed, wild)
    made = steps(running)
    assert made[-1].diverged
    assert running.iteration < changed.iterations
    assert all(0 <= evaluation.cost <= 1 for evaluation in made)
    assert all(tensor.isfinite().all() for tensor in running.network().state.values())
