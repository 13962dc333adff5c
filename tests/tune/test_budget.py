"""Whole runs whose budget ends."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.command import start
from tests.tune.runs import interrupted_at, results

BUDGET = 120
"""Seconds: what Ray takes on a slow machine, and some trials."""


def budget_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "journals/budget.json").read_text())
    return found


@pytest.mark.slow
def test_a_run_that_is_killed_keeps_the_budget_that_is_left_and_closes_with_a_table(tiny: Path, folder: Path) -> None:
    words = [f"run.budget={BUDGET}s", "tune.trials=5000", "dense.epochs=3"]
    _, output = interrupted_at("trial-4  of", signal.SIGKILL, str(tiny), "run.name=budget", *words)
    assert f"budget     {BUDGET // 60} min, of which about" in output
    assert "are planned: what is not reached at its end is left out" in output
    assert "as given dense.epochs=3, tune.trials=5000" in output
    run = folder / "runs" / "budget"
    derived = (run / "config.yaml").read_text()
    spent = budget_of(run)["spent"]
    assert 0 < spent < BUDGET
    process = start("--resume", str(run))
    output, _ = process.communicate(timeout=4 * BUDGET)
    assert process.returncode == 0, output
    assert "are left\n" in output
    assert "ended after step" in output
    assert f"The budget of {BUDGET // 60} min ended after" in output
    assert (run / "config.yaml").read_text() == derived
    told = results(run)["budget"]
    assert told["seconds"] == BUDGET
    assert told["spent"] >= 0.75 * BUDGET
    assert told["missing"][0].startswith("the rest of SAFS, of whose 5,000 trials ")
    assert [row["name"] for row in results(run)["rows"]] == ["dense", "pruned", "SAFS"]
    again = start("--resume", str(run))
    assert again.communicate(timeout=BUDGET)[0].count("The budget of 2 min ended after") == 1
    assert again.returncode == 0
