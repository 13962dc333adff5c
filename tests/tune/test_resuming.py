"""Runs that are interrupted, killed or finished, and go on."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial

from safs_ray import stages
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, load
from safs_ray.experiment import Outcome
from safs_ray.experiment.finalists import Default, winner
from safs_ray.report.__main__ import main as report
from safs_ray.search.course import Sweep, joint
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.hyperparameters import search_space
from safs_ray.search.recipe import Recipe
from safs_ray.search.records import JOURNALS, read_evaluations
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal, Past
from safs_ray.tune.proposals import METRIC, TRIAL, Proposals
from safs_ray.tune.sweep import _halving
from tests.command import start
from tests.experiment.executors import Searched
from tests.tune.runs import ENDS, interrupted_at, results, untimed


def test_a_last_training_goes_on_from_its_checkpoint(tiny: Path, folder: Path) -> None:
    process = start(
        str(tiny), "run.name=checkpoint", "run.checkpoint_seconds=1", "tune.trials=1", "final.folds=1",
        "final.seeds=1", "final.epochs=5000",  # or the workers end it, which outlive their driver for seconds
    )  # fmt: skip
    run, until = folder / "runs" / "checkpoint", time.monotonic() + ENDS
    kept = Folder.at(run / "checkpoints" / "final" / "pruned" / "fold-0")
    while not kept.names():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=ENDS)
    (key,) = kept.names()
    before = Checkpoints(kept).load(key)
    assert before is not None

    resumed = start("--resume", str(run))
    assert resumed.stdout is not None
    assert any("final evaluation, 1 fold" in line for line in resumed.stdout)
    after = Checkpoints(kept).load(key)
    assert after is not None, "nothing that came before the last training deletes its checkpoint"
    assert after["epoch"] >= before["epoch"] > 0
    output, _ = resumed.communicate(timeout=ENDS)
    assert resumed.returncode == 0, output
    assert not (run / "checkpoints").exists()


def winner_in_this_process(configuration: Configuration, run: Folder, evaluations: list[Evaluation]) -> Recipe:
    """The recipe that wins when the finalists of a run are trained here."""
    past = Past(joint(configuration), Journal(run / JOURNALS, Sweep.SAFS), evaluations)
    outcomes = [
        Outcome(
            past.course.trial(number),
            Recipe(past.best_assignment(number), entry.hyperparameters, learn_scales=True),
            entry.accuracy,
        )
        for number, entry in enumerate(past.journal.entries)
    ]
    pruned = Result.load(run / "networks" / "pruned")
    assert pruned is not None
    executor = Searched(configuration, stages.load(configuration), {"pruned": pruned}, outcomes)
    own = stages.searchable(pruned.network, configuration).assignment
    default = Default(Recipe(own, configuration.pruning.hyperparameters, learn_scales=False), "pruned")
    return winner(configuration, past.course, "pruned", None, default, executor, {})


@pytest.mark.slow
def test_after_kill_9_among_the_finalists_the_same_one_wins_as_in_one_process(tiny: Path, folder: Path) -> None:
    overrides = (
        "run.name=finalists", "tune.scheduler=none", "tune.trials=2", "tune.max_t=5", "final.epochs=100",
        "final.folds=1",
    )  # fmt: skip
    assert interrupted_at("/seed-1", signal.SIGKILL, str(tiny), *overrides)[0] == -signal.SIGKILL
    run = folder / "runs" / "finalists"
    kept = {path: path.read_text() for path in run.glob("networks/finalists/SAFS/*/*/metrics.json")}
    assert 0 < len(kept) < 3 * 2, "some are trained, some are not"
    resumed = start("--resume", str(run))
    output, _ = resumed.communicate(timeout=ENDS)
    assert resumed.returncode == 0, output
    assert "SAFS: 2 finalists and the default recipe, each trained 2 times more" in output
    assert {path: path.read_text() for path in kept} == kept, "what was trained is not trained again"
    evaluations = read_evaluations(Folder.at(run / "evaluations"))
    content, finalists = results(run), results(run)["finalists"]["SAFS"]
    configuration = load(tiny, overrides)
    chosen = winner_in_this_process(configuration, Folder.at(run), evaluations)
    assert chosen.hyperparameters.model_dump() == content["hyperparameters"]
    assert [site["operator"] for site in content["assignment"].values()] == list(chosen.assignment)
    assert [len(trial["validation_accuracy"]["values"]) for trial in finalists.values()] == [2, 2, 2]
    spent = sum(step.core_seconds for step in evaluations) + sum(trial["core_seconds"] for trial in finalists.values())
    assert content["search"]["core_seconds"] == pytest.approx(spent)
    safs = next(row for row in content["rows"] if row["name"] == "SAFS")
    assert safs["core_seconds"] > spent
    assert report([str(run)]) == 0
    assert "trained again, %" in (run / "report.html").read_text()


@pytest.mark.slow
def test_a_distilled_run_that_is_killed_ends_as_one_never_disturbed(tiny: Path, folder: Path) -> None:
    overrides = (
        "training.distillation.share=0.5", "training.label_smoothing=0.1", "training.average=0.5", "tune.trials=2",
        "final.folds=1", "final.epochs=4",
    )  # fmt: skip
    whole = start(str(tiny), "run.name=distilled", *overrides)
    output, _ = whole.communicate(timeout=ENDS)
    assert whole.returncode == 0, output
    assert "teaches the sparse ones" in output
    assert interrupted_at("step  3 of  6", signal.SIGKILL, str(tiny), "run.name=killed", *overrides)[0] < 0
    resumed = start("--resume", str(folder / "runs" / "killed"))
    output, _ = resumed.communicate(timeout=ENDS)
    assert resumed.returncode == 0, output
    ends = [results(folder / "runs" / name) for name in ("distilled", "killed")]
    assert untimed(folder / "runs" / "killed") == untimed(folder / "runs" / "distilled")
    accuracies = [
        [(row["name"], row["validation_accuracy"], row["test_accuracy"]) for row in end["rows"]] for end in ends
    ]
    assert accuracies[0] == accuracies[1]
    assert ends[0]["assignment"] == ends[1]["assignment"]


@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_and_longer_trials(folder: Path, tiny: Path) -> None:
    process = start(str(tiny), "run.name=further", "tune.trials=2", "tune.max_t=5")
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    run = folder / "runs" / "further"
    before = untimed(run)
    resumed = start("--resume", str(run), "tune.trials=3", "tune.max_t=null", "final.ablations=[stage 1]")
    output, _ = resumed.communicate(timeout=ENDS)
    assert resumed.returncode == 0, output
    assert "# resumed with tune.trials: 3, was 2" in (run / "config.yaml").read_text()
    assert untimed(run)[: len(before)] == before, "what was known is still known"
    assert {step.trial for step in untimed(run)} == {"trial-1", "trial-2", "trial-3"}
    assert [row["name"] for row in results(run)["rows"]] == ["dense", "pruned", "stage 1", "SAFS"]
    assert max(step.iteration for step in untimed(run)) == 5, "who had reached the end of the shorter course goes on"
    moved = folder / "runs" / "moved"
    run.rename(moved)
    again = start("--resume", str(moved))
    output, _ = again.communicate(timeout=ENDS)
    assert again.returncode == 0, output
    refused = start("--resume", str(moved), "run.seed=5")
    output, _ = refused.communicate(timeout=ENDS)
    assert refused.returncode == 2
    assert output.startswith("error: run.seed=5: the run was begun with 0")


@pytest.mark.slow
def test_sigterm_ends_a_run_in_the_background_of_a_shell(folder: Path, tiny: Path) -> None:
    """A shell lets what it starts in the background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code, output = interrupted_at("dense     ", signal.SIGTERM, str(tiny), "run.name=background")
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert code == 130, output
    assert output.splitlines()[-1].endswith(f"--resume {folder / 'runs' / 'background'}")


@pytest.mark.slow
def test_after_kill_9_random_proposals_and_brackets_are_as_if_replayed(tiny: Path, folder: Path) -> None:
    overrides = (
        "run.name=brackets", "tune.trials=6", "tune.searcher=random", "tune.grace_period=1", "tune.brackets=2",
        "tune.max_t=5", "tune.space.optimizers=[tadam,fromage]", "tune.space.tadam.learning_rate=[1e-3,1e-2]",
        "search.share=best",
    )  # fmt: skip
    assert interrupted_at("trial-3  of 6", signal.SIGKILL, str(tiny), *overrides)[0] == -signal.SIGKILL
    run = folder / "runs" / "brackets"
    resumed = start("--resume", str(run))
    output, _ = resumed.communicate(timeout=ENDS)
    assert resumed.returncode == 0, output

    configuration = load(tiny, overrides)
    past = Past(joint(configuration), Journal(Folder.at(folder / "replayed"), Sweep.SAFS), [])
    proposals, halving = Proposals(past, 6, search_space(configuration), lambda: None), _halving(configuration, past)
    taken: dict[str, int] = {}
    candidates: list[Evaluation] = []
    for number in range(6):
        proposed: Any = proposals.suggest(str(number))
        trial = Trial("chain", stub=True, config=proposed, trial_name_creator=lambda trial: trial.config[TRIAL])
        halving.on_trial_add(None, trial)
        steps = [evaluation for evaluation in untimed(run) if evaluation.trial == str(trial)]
        assert {json.loads(step.hyperparameters)["learning_rate"] for step in steps} == {
            proposed["hyperparameters"]["learning_rate"]
        }
        verdicts = [
            halving.on_trial_result(None, trial, {"training_iteration": step, METRIC: evaluation.best_accuracy})
            for step, evaluation in enumerate(steps, 1)
        ]
        assert verdicts == ["CONTINUE"] * (len(steps) - 1) + ["STOP"]
        taken[str(trial)] = len(steps)
        if candidates:
            assert steps[0].assignment == min(candidates, key=lambda step: step.cost).assignment
        candidates += [step for step in steps if step.phase == "search"]
    assert [entry.steps for entry in Journal(Folder.at(run / JOURNALS), Sweep.SAFS).entries] == list(taken.values())
    assert taken == Counter(evaluation.trial for evaluation in untimed(run))
    assert max(taken.values()) == 5 > min(taken.values())
    assert {halving._brackets.index(bracket) for bracket in halving._trial_info.values()} == {0, 1}


@pytest.mark.parametrize(
    "signal_number",
    [pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.slow), pytest.param(signal.SIGTERM, id="SIGTERM")],
)
def test_an_interrupted_run_says_how_to_go_on(folder: Path, tiny: Path, signal_number: int) -> None:
    name = f"stopped-{signal_number}"
    code, output = interrupted_at("step  2 of  6", signal_number, str(tiny), f"run.name={name}")
    assert code == 130, output
    assert f"--resume {folder / 'runs' / name}" in output.splitlines()[-1]
    assert "Traceback" not in output
