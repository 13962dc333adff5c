"""Runs of the command as subprocesses, and what they leave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from safs_ray.search.evaluation import Evaluation
from safs_ray.search.records import read_evaluations
from safs_ray.storage import Folder
from tests.command import start

ENDS = 280
"""Seconds within which any tiny run ends."""


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


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The accuracy that TensorBoard shows of every trial, by step."""
    found = {}
    for trial in sorted({evaluation.trial for evaluation in untimed(run)}):
        events = EventAccumulator(str(run / "search" / "SAFS" / trial))
        events.Reload()
        found[trial] = [(event.step, event.value) for event in events.Scalars("ray/tune/validation_accuracy")]
    return found


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
