from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from safs_ray.config import ConfigurationError, RunSection
from safs_ray.display import LATEST, LiveTable, telling
from safs_ray.log import event, log


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=110, height=40, color_system=None)


@pytest.fixture
def table(console: Console) -> Iterator[LiveTable]:
    before = log.handlers[:], log.propagate
    with LiveTable(console) as shown:
        log.handlers, log.propagate = [shown], False
        log.setLevel(logging.INFO)
        yield shown
    log.handlers, log.propagate = before


def step(trial: str, number: int, accuracy: float, phase: str = "search") -> None:
    told = event(
        "step", sweep="SAFS", trial=trial, step=number, phase=phase, assignment="relu,tanh", best_accuracy=accuracy,
        validation_accuracy=accuracy - 0.1, seconds_left=100.0,
    )  # fmt: skip
    log.info("a line", extra=told)


def drawn(table: LiveTable) -> str:
    """What the table shows now."""
    paper = Console(file=io.StringIO(), width=110, color_system=None)
    paper.print(table._drawn())
    text: str = paper.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_trials_with_their_steps_and_the_best_so_far(table: LiveTable) -> None:
    log.info("SAFS: 20 trials", extra=event("sweep", sweep="SAFS", trials=20, steps=6))
    step("trial-2", 3, 0.4)
    step("trial-1", 6, 0.75, "fine-tuning")
    step("trial-2", 4, 0.5)
    title, head, first, second, summary = (line.rstrip() for line in drawn(table).splitlines() if line.strip())
    assert (title, head.split()[:3]) == ("SAFS", ["trial", "step", "doing"])
    assert first.split() == ["trial-1", "━" * 16, "6/6", "done", "65.0", "%", "75.0", "%", "relu", "tanh"]
    assert second.split()[2:4] == ["4/6", "search"]
    assert summary == "best 75.0 % by trial-1, 2 min left"


def test_why_a_trial_is_over(table: LiveTable) -> None:
    log.info("SAFS", extra=event("sweep", sweep="SAFS", trials=2, steps=6))
    for trial, why in (("trial-1", "stopped by ASHA, weaker"), ("trial-2", "its fine-tuning diverged")):
        step(trial, 3, 0.4)
        log.info("ended", extra=event("ended", sweep="SAFS", trial=trial, step=3, why=why))
    assert "stopped" in drawn(table)
    assert "diverged" in drawn(table)


def test_a_trial_that_took_only_recorded_steps_may_end(table: LiveTable) -> None:
    log.info("SAFS", extra=event("sweep", sweep="SAFS", trials=2, steps=6))
    log.info("ended", extra=event("ended", sweep="SAFS", trial="trial-1", step=3, why="stopped by ASHA, weaker"))
    assert drawn(table).strip() == ""


def test_what_goes_wrong_in_it_fails_no_trial(table: LiveTable, capsys: pytest.CaptureFixture[str]) -> None:
    log.info("a step of nobody", extra=event("step", sweep="SAFS"))
    assert "KeyError" in capsys.readouterr().err
    assert drawn(table).strip() == ""


def test_stages_until_something_else_begins(table: LiveTable) -> None:
    told = {"epoch": 5, "epochs": 20, "validation_accuracy": 0.5, "seconds_left": None}
    log.info("a line", extra=event("epoch", stage="dense", **told))
    head, row, *_ = (line.strip() for line in drawn(table).splitlines())
    assert head.split() == ["stage", "epoch", "validation"]
    assert row.split() == ["dense", "━" * 16, "5/20", "50.0", "%"]
    log.info("SAFS", extra=event("sweep", sweep="SAFS", trials=2, steps=6))
    assert drawn(table).strip() == ""


def test_finalists_are_stages(table: LiveTable) -> None:
    log.info("SAFS", extra=event("sweep", sweep="SAFS", trials=2, steps=6))
    step("trial-2", 3, 0.4)
    log.info("2 finalists", extra=event("finalists", sweep="SAFS", trials=["trial-1", "trial-2"], trainings=2))
    told = {"epoch": 5, "epochs": 20, "validation_accuracy": 0.5, "seconds_left": None}
    log.info("a line", extra=event("epoch", stage="finalists/SAFS/trial-2/seed-0", **told))
    head, row, *_ = (line.strip() for line in drawn(table).splitlines())
    assert (head.split()[0], row.split()[0]) == ("stage", "finalists/SAFS/trial-2/seed-0")


def test_only_the_latest_trials_are_shown_in_their_order(table: LiveTable) -> None:
    log.info("SAFS", extra=event("sweep", sweep="SAFS", trials=100, steps=6))
    for number in range(1, 2 * LATEST):
        step(f"trial-{number}", 1, 0.4)
    step("trial-1", 2, 0.4)
    shown = [line.split()[0] for line in drawn(table).splitlines() if line.startswith("trial-")]
    assert shown == ["trial-1", *(f"trial-{number}" for number in range(LATEST + 1, 2 * LATEST))]


@pytest.mark.usefixtures("table")
def test_other_messages_stay_above_it(console: Console) -> None:
    log.info("SAFS: 2 trials of at most 6 steps", extra=event("sweep", sweep="SAFS", trials=2, steps=6))
    step("trial-1", 1, 0.4)
    log.warning("warning: something is odd")
    log.info("SAFS: trial-1 wins", extra=event("won", sweep="SAFS", trial="trial-1"))
    printed: str = console.file.getvalue()  # type: ignore[attr-defined]
    for line in ("SAFS: 2 trials of at most 6 steps", "warning: something is odd", "SAFS: trial-1 wins"):
        assert line in printed
    assert "a line" not in printed


def test_telling_writes_lines_for_a_person_and_events_for_a_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, file = (log.handlers, log.level, log.propagate), tmp_path / "events.jsonl"
    with telling(RunSection(events=str(file)), Console()):
        log.info("%s wins", "trial-2", extra=event("won", trial="trial-2", validation_accuracy=0.5))
    with telling(RunSection(events=str(file), verbose=0), Console()):
        log.info("quiet")
        log.warning("loud")
    assert (log.handlers, log.level, log.propagate) == before
    first, second, third = (json.loads(line) for line in file.read_text().splitlines())
    assert first == {
        "time": first["time"], "level": "info", "event": "won", "trial": "trial-2", "validation_accuracy": 0.5,
        "message": "trial-2 wins",
    }  # fmt: skip
    assert (second["message"], third["level"]) == ("quiet", "warning")
    printed = capsys.readouterr().out
    assert "trial-2 wins" in printed
    assert "loud" in printed
    assert "quiet" not in printed


def test_telling_refuses_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(ConfigurationError, match=r"^run\.events=missing/events\.jsonl: .*No such file"),
        telling(RunSection(events="missing/events.jsonl"), Console()),
    ):
        pytest.fail("it began")
