"""The command as a user types it: errors, a whole run, interruptions and resumption."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from ray.tune.experiment import Trial
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from safs_ray import stages
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, Costs, load
from safs_ray.network import Network
from safs_ray.report.__main__ import main as report
from safs_ray.search.chain import joint
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.records import JOURNALS
from safs_ray.sparse.costs import of_this_machine
from safs_ray.stages import Found, Recipe
from safs_ray.storage import Folder
from safs_ray.tune import command, ending
from safs_ray.tune.__main__ import main
from safs_ray.tune.board import read_evaluations
from safs_ray.tune.journal import Journal, Past
from safs_ray.tune.proposals import METRIC, TRIAL, Proposals, search_space
from safs_ray.tune.search import _halving
from tests.command import start, written

ENDS = 280
"""Seconds within which any tiny run ends."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("command")


@pytest.fixture(scope="module")
def tiny(folder: Path, configuration: Configuration) -> Path:
    """A configuration file whose runs go to this module's folder."""
    return written(folder / "tiny.yaml", configuration, "tiny", folder / "runs")


@pytest.fixture(scope="module")
def finished(folder: Path, tiny: Path) -> Path:
    """The folder of a run that nothing disturbed."""
    process = start(str(tiny), f"run.events={folder / 'events.jsonl'}")
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    (folder / "output.txt").write_text(output)
    return folder / "runs" / "tiny"


def interrupted_at(line: str, signal_number: int, *arguments: str) -> tuple[int, str]:
    """Start a run, send the signal when its output holds the line, and wait; returns the exit code and the output."""
    process = start(*arguments)
    assert process.stdout is not None
    output = ""
    for printed in process.stdout:
        output += printed
        if line in printed:
            process.send_signal(signal_number)
            break
    rest, _ = process.communicate(timeout=ENDS)
    return process.returncode, output + rest


def results(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "results.json").read_text())
    return content


def untimed(run: Path) -> list[Evaluation]:
    return [replace(evaluation, core_seconds=0.0) for evaluation in read_evaluations(Folder.at(run / "evaluations"))]


def test_a_run_ends_with_its_table(finished: Path, folder: Path) -> None:
    content = results(finished)
    assert [row["name"] for row in content["rows"]] == ["dense", "pruned", "SAFS"]
    dense, pruned, safs = content["rows"]
    assert dense["sparsity"] == 0
    assert pruned["sparsity"] == safs["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert len(safs["test_accuracy"]["values"]) == len(pruned["test_accuracy"]["values"]) == 2
    assert safs["test_accuracy"]["mean"] == pytest.approx(sum(safs["test_accuracy"]["values"]) / 2)
    assert pruned["core_seconds"] > dense["core_seconds"] > 0
    assert safs["core_seconds"] > dense["core_seconds"] + content["search"]["core_seconds"] > dense["core_seconds"]
    assert safs["evaluations"] == content["search"]["evaluations"] > 0
    assert content["finished"]
    assert {site: set(values) for site, values in content["assignment"].items()} == {
        "act1": {"operator", "alpha", "beta"},
        "act2": {"operator", "alpha", "beta"},
    }
    output = (folder / "output.txt").read_text()
    for part in ("tensorboard --logdir", "--resume", "SAFS", "act2", "trial-1  of 3", "more saved by the board"):
        assert part in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_search_before_pruning_prunes_with_what_it_found(finished: Path, tiny: Path) -> None:
    process = start(
        str(tiny), "run.name=before", "search.when=before", "search.start=random", "search.operators=[swish, tanh]",
        "pruning.allocation=global", "tune.trials=2",
    )  # fmt: skip
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    run = finished.parent / "before"
    networks = {
        name: Network.load(Folder.at(run / "networks" / name)) for name in ("dense", "pruned", "pruned-found", "best")
    }
    assert set(networks["best"].assignment) <= {"swish", "tanh"}
    assert networks["pruned-found"].assignment == networks["best"].assignment
    assert networks["pruned"].assignment == networks["dense"].assignment == ("relu", "relu")
    for name, mask in networks["best"].masks.items():
        assert torch.equal(mask, networks["pruned-found"].masks[name])
        assert torch.equal(networks["pruned-found"].state[name] != 0, mask)
    left = f"{networks['best'].nonzero_weights:,} of {networks['best'].prunable_count:,} weights"
    assert f"schedule one shot: {left} stay" in output
    assert output.count(f"{left} are left") == 2
    assert "outputs can still be reached" in output


def test_the_run_folder_is_complete(finished: Path) -> None:
    for stage in ("dense", "pruned", "best", "final/dense/fold-0", "final/pruned/fold-1", "final/SAFS/fold-1"):
        assert Network.load(Folder.at(finished / "networks" / stage)).sites == ("act1", "act2")
    best = Network.load(Folder.at(finished / "networks" / "best"))
    assert best.activations() == results(finished)["assignment"]
    for name, mask in best.masks.items():
        assert (best.state[name][~mask] == 0).all()
    text = (finished / "config.yaml").read_text()
    assert text.startswith("# Python 3")
    written = yaml.safe_load(text)
    assert written["search"]["steps"] == 4
    assert Costs(*written["run"]["costs"]) == of_this_machine()  # that it goes by, on whatever machine it goes on


@pytest.mark.slow
def test_groups_of_channels_and_a_users_own_operator_reach_every_process(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "operators_here.py").write_text("def cube(z, a=0.1):\n    return z + a * z**3\n")
    changes = ("run.name=groups", "tune.trials=1", "tune.grace_period=1", "final.folds=1", "search.start=random")
    search = ("search.granularity=group", "search.operators=[operators_here:cube, srelu]")
    process = start(str(tiny), *changes, *search, directory=tmp_path)
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    assert "2 sites of 2 groups" in output
    run = tiny.parent / "runs" / "groups"
    assert list(results(run)["assignment"]) == ["act1.0", "act1.1", "act2.0", "act2.1"]
    assert "operators_here:cube" in {name for evaluation in untimed(run) for name in evaluation.assignment}
    assert Network.load(Folder.at(run / "networks" / "final" / "SAFS" / "fold-0")).groups == 2
    assert Network.load(Folder.at(run / "networks" / "final" / "pruned" / "fold-0")).sites == ("act1", "act2")


def test_every_evaluation_is_kept_and_none_trained_twice(finished: Path) -> None:
    evaluations = untimed(finished)
    trained = [evaluation.key for evaluation in evaluations if evaluation.key and not evaluation.repeated]
    assert len(trained) == len(set(trained)) == results(finished)["search"]["evaluations"]
    assert len({evaluation.trial for evaluation in evaluations}) == 3


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The accuracy that TensorBoard shows of every trial, by step."""
    found = {}
    for trial in sorted({evaluation.trial for evaluation in untimed(run)}):
        events = EventAccumulator(str(run / "search" / "SAFS" / trial))
        events.Reload()
        found[trial] = [(event.step, event.value) for event in events.Scalars("ray/tune/validation_accuracy")]
    return found


def test_tensorboard_shows_accuracy_cost_acceptance_and_phase(finished: Path) -> None:
    (folder,) = {path.parent for path in finished.rglob("events.out.tfevents*")} & {
        finished / "search" / "SAFS" / untimed(finished)[0].trial
    }
    events = EventAccumulator(str(folder))
    events.Reload()
    for name in ("validation_accuracy", "best_accuracy", "cost", "accepted", "fine_tuning", "repeated"):
        assert len(events.Scalars(f"ray/tune/{name}")) == 6, name
    assert [event.value for event in events.Scalars("ray/tune/fine_tuning")] == [0, 0, 0, 0, 1, 1]


def test_tensorboard_has_the_hyperparameters_and_the_last_accuracy_of_every_trial(finished: Path) -> None:
    for trial in {evaluation.trial for evaluation in untimed(finished)}:
        events = EventAccumulator(str(finished / "search" / "SAFS" / trial))
        events.Reload()
        tagged = events.PluginTagToContent("hparams")
        session = HParamsPluginData.FromString(tagged["_hparams_/session_start_info"]).session_start_info
        assert session.hparams["hyperparameters/learning_rate"].number_value > 0
        assert {"_hparams_/experiment", "_hparams_/session_end_info"} <= tagged.keys()
        assert events.Scalars("ray/tune/best_accuracy")


def test_tensorboard_shows_the_learned_functions_and_what_sites_take_and_give(finished: Path) -> None:
    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    assert {"functions", "trajectories", "halving"} <= set(events.Tags()["images"])
    sites = results(finished)["assignment"]
    assert set(events.Tags()["histograms"]) == {f"{kind}/{site}" for kind in ("inputs", "outputs") for site in sites}
    (drawn,) = events.Images("functions")
    assert drawn.step == len(untimed(finished))
    assert Image.open(io.BytesIO(drawn.encoded_image_string)).width == drawn.width > 300
    (taken,) = events.Histograms(f"inputs/{min(sites)}")
    assert taken.histogram_value.num > 100


@pytest.mark.slow
def test_protocol_staged_with_every_row(finished: Path, tiny: Path) -> None:
    process = start(
        str(tiny), "run.name=staged", "search.protocol=staged", "search.chains=2", "final.ablations=[stage 1, stage 2]"
    )
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    run = finished.parent / "staged"
    content = results(run)
    assert [row["name"] for row in content["rows"]] == ["dense", "pruned", "stage 1", "stage 2", "SAFS"]
    sweeps: dict[str, list[Evaluation]] = {"stage 1": [], "SAFS": [], "stage 2": []}
    for evaluation in untimed(run):
        sweeps[evaluation.sweep].append(evaluation)
    assert {(evaluation.trial, evaluation.phase) for evaluation in sweeps["stage 1"]} == {
        ("chain-1", "search"),
        ("chain-2", "search"),
    }
    assert sum(evaluation.repeated for evaluation in sweeps["stage 1"]) >= 1, "both chains begin at the same place"
    (best,) = {evaluation.assignment for evaluation in sweeps["SAFS"]}
    bests = {
        chain: max(
            (step for step in sweeps["stage 1"] if step.trial == chain), key=lambda step: step.validation_accuracy
        )
        for chain in ("chain-1", "chain-2")
    }
    assert best in {step.assignment for step in bests.values()}
    assert {evaluation.assignment for evaluation in sweeps["stage 2"]} == {("relu", "relu")}
    assert len({evaluation.trial for evaluation in sweeps["SAFS"]}) == 3
    networks = Folder.at(run / "networks")
    stage_1, safs = (Network.load(networks / f"final/{row}/fold-0") for row in ("stage 1", "SAFS"))
    assert stage_1.assignment == safs.assignment == best
    assert {activation["alpha"] for activation in stage_1.activations().values()} == {1.0}
    assert 1.0 not in {activation["alpha"] for activation in safs.activations().values()}


def test_every_event_is_a_line_of_json(finished: Path, folder: Path) -> None:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event.get("event") == "step"]
    told = [(step["trial"], step["validation_accuracy"]) for step in steps]
    assert told == [(evaluation.trial, evaluation.validation_accuracy) for evaluation in untimed(finished)]
    assert {"epoch", "pruned", "sweep", "step", "ended", "won", "final evaluation", "finished"} <= {
        event.get("event") for event in events
    }


def test_a_finished_run_is_shown_not_repeated(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def times() -> dict[Path, float]:
        made_again = {finished / "report.html", finished / "tensorboard", *(finished / "tensorboard").iterdir()}
        return {path: path.stat().st_mtime for path in finished.rglob("*") if path not in made_again}

    before = times()
    assert main(["--resume", str(finished)]) == 0
    assert "SAFS" in capsys.readouterr().out
    assert report([str(finished)]) == 0
    assert "SAFS" in capsys.readouterr().out
    assert times() == before


def test_a_name_that_is_taken_is_refused(finished: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: run.name=tiny: ")
    assert str(finished) in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("dense ", id="dense training", marks=pytest.mark.slow),
        pytest.param("step  3 of  6", id="search"),
        pytest.param("final/pruned/fold-0", id="final evaluation", marks=pytest.mark.slow),
    ],
)
def test_after_kill_9_a_resumed_run_ends_like_one_never_interrupted(finished: Path, tiny: Path, line: str) -> None:
    name = f"killed-{line.split()[0].replace('/', '-')}"
    code, _ = interrupted_at(line, signal.SIGKILL, str(tiny), f"run.name={name}")
    assert code == -signal.SIGKILL
    run = finished.parent / name
    kept = untimed(run) if (run / "evaluations").exists() else []
    resumed = start("--resume", str(run))
    output, _ = resumed.communicate(timeout=ENDS)
    assert resumed.returncode == 0, output
    assert untimed(run)[: len(kept)] == kept
    assert untimed(run) == untimed(finished)
    assert curves(run) == curves(finished)
    assert results(run)["assignment"] == results(finished)["assignment"]
    for mine, other in zip(results(run)["rows"], results(finished)["rows"], strict=True):
        assert mine["test_accuracy"] == other["test_accuracy"]


def test_a_last_training_goes_on_from_its_checkpoint(tiny: Path, folder: Path) -> None:
    process = start(
        str(tiny), "run.name=checkpoint", "run.checkpoint_seconds=1", "tune.trials=1", "final.folds=1",
        "final.epochs=2000",
    )  # fmt: skip
    run, until = folder / "runs" / "checkpoint", time.monotonic() + ENDS
    kept = Folder.at(run / "checkpoints" / "final" / "SAFS" / "fold-0")
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


@pytest.mark.slow
def test_after_kill_9_among_the_finalists_the_same_one_wins_as_in_one_process(tiny: Path, folder: Path) -> None:
    overrides = (
        "run.name=finalists", "tune.scheduler=none", "tune.trials=2", "tune.max_t=5", "final.epochs=100",
        "final.folds=1",
    )  # fmt: skip
    assert interrupted_at("/seed-1", signal.SIGKILL, str(tiny), *overrides)[0] == -signal.SIGKILL
    run = folder / "runs" / "finalists"
    kept = {path: path.read_text() for path in run.glob("networks/finalists/SAFS/*/*/metrics.json")}
    assert 0 < len(kept) < 2 * 2, "some are trained, some are not"
    resumed = start("--resume", str(run))
    output, _ = resumed.communicate(timeout=ENDS)
    assert resumed.returncode == 0, output
    assert "SAFS: 2 finalists, each trained 2 times more" in output
    assert {path: path.read_text() for path in kept} == kept, "what was trained is not trained again"
    journal, evaluations = Journal(Folder.at(run / JOURNALS), "SAFS"), read_evaluations(Folder.at(run / "evaluations"))

    configuration = load(tiny, overrides)
    past = Past(joint(configuration), journal, evaluations)
    pruned = Network.load(Folder.at(run / "networks" / "pruned"))
    found = [
        Found(pruned, Recipe(past.found(number), entry.hyperparameters, True), entry.accuracy, ())
        for number, entry in enumerate(journal.entries)
    ]
    splits = stages.folds(configuration, stages.load(configuration)).search()
    chosen = stages.choose(found, pruned, configuration, splits, torch.device("cpu")).recipe
    content, finalists = results(run), results(run)["finalists"]["SAFS"]
    assert journal.winner == chosen
    assert [site["operator"] for site in content["assignment"].values()] == list(chosen.assignment)
    assert [len(trial["validation_accuracy"]["values"]) for trial in finalists.values()] == [2, 2]
    spent = sum(step.core_seconds for step in evaluations) + sum(trial["core_seconds"] for trial in finalists.values())
    assert content["search"]["core_seconds"] == pytest.approx(spent)
    safs = next(row for row in content["rows"] if row["name"] == "SAFS")
    assert safs["core_seconds"] > spent
    assert report([str(run)]) == 0
    assert "trained again, %" in (run / "report.html").read_text()


@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_and_longer_trials(finished: Path, tiny: Path) -> None:
    process = start(str(tiny), "run.name=further", "tune.trials=2", "tune.max_t=5")
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    run = finished.parent / "further"
    before = untimed(run)
    resumed = start("--resume", str(run), "tune.trials=3", "tune.max_t=null", "final.ablations=[stage 1]")
    output, _ = resumed.communicate(timeout=ENDS)
    assert resumed.returncode == 0, output
    assert "# resumed with tune.trials: 3, was 2" in (run / "config.yaml").read_text()
    assert untimed(run)[: len(before)] == before, "what was known is still known"
    assert {step.trial for step in untimed(run)} == {"trial-1", "trial-2", "trial-3"}
    assert [row["name"] for row in results(run)["rows"]] == ["dense", "pruned", "stage 1", "SAFS"]
    assert max(step.iteration for step in untimed(run)) == 5, "who had reached the end of the shorter course goes on"
    moved = finished.parent / "moved"
    run.rename(moved)
    again = start("--resume", str(moved))
    output, _ = again.communicate(timeout=ENDS)
    assert again.returncode == 0, output
    refused = start("--resume", str(moved), "run.seed=5")
    output, _ = refused.communicate(timeout=ENDS)
    assert refused.returncode == 2
    assert output.startswith("error: run.seed=5: the run was begun with 0")


@pytest.mark.slow
def test_a_warm_start_makes_no_evaluation_again(finished: Path, tiny: Path) -> None:
    process = start(str(tiny), "run.name=warm", f"tune.warm_start={finished}")
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    run = finished.parent / "warm"
    for stage in ("dense", "pruned"):
        mine, other = (Network.load(Folder.at(place / "networks" / stage)) for place in (run, finished))
        assert mine.fingerprint == other.fingerprint
    first = [step for step in untimed(run) if step.trial == "trial-1" and step.phase == "search"]
    assert all(step.repeated for step in first), "the first trial has the default hyperparameters in both"
    assert json.loads((run / "earlier" / "complete.json").read_text()) == {"run": str(finished)}


@pytest.mark.slow
def test_sigterm_ends_a_run_in_the_background_of_a_shell(finished: Path, tiny: Path) -> None:
    """A shell lets what it starts in the background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code, output = interrupted_at("dense     ", signal.SIGTERM, str(tiny), "run.name=background")
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert code == 130, output
    assert output.splitlines()[-1].endswith(f"--resume {finished.parent / 'background'}")


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
    past = Past(joint(configuration), Journal(Folder.at(folder / "replayed"), "SAFS"), [])
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
    assert [entry.steps for entry in Journal(Folder.at(run / JOURNALS), "SAFS").entries] == list(taken.values())
    assert taken == Counter(evaluation.trial for evaluation in untimed(run))
    assert max(taken.values()) == 5 > min(taken.values())
    assert {halving._brackets.index(bracket) for bracket in halving._trial_info.values()} == {0, 1}


@pytest.mark.parametrize(
    "signal_number",
    [pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.slow), pytest.param(signal.SIGTERM, id="SIGTERM")],
)
def test_an_interrupted_run_says_how_to_go_on(finished: Path, tiny: Path, signal_number: int) -> None:
    name = f"stopped-{signal_number}"
    code, output = interrupted_at("step  2 of  6", signal_number, str(tiny), f"run.name={name}")
    assert code == 130, output
    assert f"--resume {finished.parent / name}" in output.splitlines()[-1]
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search.stepz=3"], "search.stepz=3: unknown key; did you mean steps?"),
        (["search.steps=many"], "search.steps=many: "),
        (["search.steps=0"], "search.steps=0: "),
        (["pruning.sparsity=1.0"], "pruning.sparsity=1.0: "),
        (["pruning.sparsity=-0.1"], "pruning.sparsity=-0.1: "),
        (["pruning.allocation=rows"], "pruning.allocation=rows: "),
        (["search.operators=[relu, wish]"], "search.operators=wish: unknown operator"),
        (["model.name=alexnet"], "model.name=alexnet: allowed: lenet5, mlp, vgg16, resnet18"),
        (["model.name=lenet5", "data.size=30"], "data.size: lenet5 takes images of 28x28 or 32x32"),
        (["model.name=vgg16", "data.size=16"], "data.size: vgg16 takes images of 32x32 or more"),
        (["data.source=digit"], "data.source=digit: allowed: digits, mnist, fashion_mnist, kmnist"),
        (["data.source=parquet:/nowhere"], "data.source=parquet:/nowhere: there is no file /nowhere/train.parquet"),
        (["data.source=imagefolder:/nowhere"], "data.source=imagefolder:/nowhere: "),
        (["final.folds=4"], "final.folds=4 folds of data.validation=0.2 hold back 80%"),
        (["finetune.epochs_per_step=3"], "finetune: epochs=4 must be a multiple of epochs_per_step=3"),
        (["tune.space.sgd.learning_rate=[0.1, 0.01]"], "tune.space.sgd.learning_rate=[0.1, 0.01]: must be [low, high]"),
        (["tune.resources.gpu=64"], "tune.resources.gpu=64.0: this machine has"),
        (["run.name=../elsewhere"], "run.name=../elsewhere: "),
        (["tune.warm_start=/nowhere"], "tune.warm_start=/nowhere: holds no config.yaml"),
        (["nonsense"], "override=nonsense: must be key.path=value"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_before_any_work(
    tiny: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = set(tiny.parent.rglob("*"))
    assert main([str(tiny), "run.name=refused", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}"), error
    assert error.count("\n") == 1
    assert set(tiny.parent.rglob("*")) == before


def test_a_dry_run_says_what_a_run_would_cost_and_begins_nothing(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tiny.parent.rglob("*"))
    assert main([str(tiny), "--dry-run", "run.name=dry"]) == 0
    printed = capsys.readouterr().out
    assert "at most 49 epochs" in printed
    assert "nothing was begun" in printed
    assert set(tiny.parent.rglob("*")) == before
    assert main([str(tiny), "--dry-run", "run.name=dry", "data.source=digit"]) == 2


def test_every_value_and_where_it_is_from(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tiny.with_name("small.yaml")
    small.write_text("run: {name: small}\nsearch: {steps: 3}\n")
    assert main([str(small), "tune.resources={cpu: 1}", "search.epochs=2", "--print-config"]) == 0
    lines = dict(line.split("  # ") for line in capsys.readouterr().out.splitlines())
    origins = {line.strip(): origin for line, origin in lines.items()}
    assert origins["search.steps=3"] == str(small)
    assert origins["search.epochs=2"] == origins["tune.resources.cpu=1"] == "command line"
    assert origins["final.folds=3"] == "default"
    small.write_text("pruning: {sparsity: 0.99}\n")
    assert main([str(small), "pruning.structure=2:4", "--print-config"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "pruning.sparsity=0.5 # command line" in told


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "tune.brackets  (integer from 1 to 16; default: 1)" in capsys.readouterr().out


def test_a_missing_configuration_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "error: configuration=nowhere.yaml: cannot be read (No such file or directory)\n"


def test_only_a_run_can_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--resume", str(tmp_path)]) == 2
    assert "holds no config.yaml" in capsys.readouterr().err


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_stays_as_it_is_when_what_it_is_to_go_on_with_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = contents(run)
    assert main(["--resume", str(run), "tune.trials=9", "tune.resources.cpu=1000"]) == 2
    assert "tune.resources.cpu=1000" in capsys.readouterr().err
    assert contents(run) == before
    with run_in_another_process(run):
        assert main(["--resume", str(run), "tune.trials=9"]) == 2
        assert "another process is at this run" in capsys.readouterr().err
    assert contents(run) == before
    assert main(["--resume", str(run)]) == 0


@contextmanager
def run_in_another_process(run: Path) -> Iterator[None]:
    """What a process that is at a run holds; to flock another descriptor is as good as another process."""
    file = os.open(run / command.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    yield
    os.close(file)


def test_an_end_is_told_on_a_storage_that_is_gone(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(Folder, "exists", gone)
    told = ending.left(configuration, Folder("/bucket/run"), again=False)
    assert told.startswith("what was finished is kept. Go on with: ")
    assert told.endswith(" -m safs_ray.tune --resume /bucket/run")


def test_storage_that_cannot_be_written_is_one_line(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny), "run.storage=/proc/nowhere"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: run.storage=/proc/nowhere: ")
    assert error.count("\n") == 1


def test_report_of_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(tmp_path)]) == 2
    assert "holds no config.yaml" in capsys.readouterr().err
