"""A whole run as a user starts it: what it leaves, and that nothing that disturbs it changes it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from safs_ray.config import Costs
from safs_ray.network import Network
from safs_ray.report.__main__ import main as report
from safs_ray.sparse.costs import of_this_machine
from safs_ray.storage import Folder
from safs_ray.tune import command
from safs_ray.tune.__main__ import main
from tests.command import start
from tests.tune.runs import ENDS, contents, curves, interrupted_at, results, untimed


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


def test_every_evaluation_is_kept_and_none_trained_twice(finished: Path) -> None:
    evaluations = untimed(finished)
    trained = [evaluation.key for evaluation in evaluations if evaluation.key and not evaluation.repeated]
    assert len(trained) == len(set(trained)) == results(finished)["search"]["evaluations"]
    assert len({evaluation.trial for evaluation in evaluations}) == 3


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


@contextmanager
def run_in_another_process(run: Path) -> Iterator[None]:
    """What a process that is at a run holds; to flock another descriptor is as good as another process."""
    file = os.open(run / command.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    yield
    os.close(file)


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
