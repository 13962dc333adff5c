from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import pytest

from safs_ray.log import event, log
from safs_ray.tune.progress import Clock, EventFile, StageProgress, lines, show_to


def test_clock_tells_the_time_left_at_the_pace_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = Clock(epochs=10)
    assert (clock.left(), clock.seconds_left) == ("…", None)
    now, clock.done = 120.0, 4
    assert (clock.left(), clock.seconds_left) == ("30 s", 30)
    assert pickle.loads(pickle.dumps(clock)).done == 4


def test_what_was_done_before_takes_no_time(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = StageProgress(epochs=30)
    progress.made("dense", 10)
    progress.made("dense", 10)
    with caplog.at_level(logging.INFO, "safs_ray"):
        progress.epoch("resumed", 8, 10, 0.5)
        now = 110.0
        progress.epoch("resumed", 9, 10, 0.5)
    assert caplog.messages == ["resumed         epoch   9 of  10   validation  50.0 %   55 s left here"]


def test_events_are_lines_of_json_beside_what_a_person_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = log.handlers[:], log.propagate
    file = tmp_path / "events.jsonl"
    try:
        show_to(lines(1), EventFile(str(file)))
        log.info("%s wins", "trial-2", extra=event("won", trial="trial-2", validation_accuracy=0.5))
        show_to(lines(0), EventFile(str(file)))
        log.info("quiet")
        log.warning("loud")
    finally:
        log.handlers, log.propagate = before
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
