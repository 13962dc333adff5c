from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from safs_ray.config import Configuration
from safs_ray.search.records import JOURNALS
from safs_ray.storage import Folder
from safs_ray.tune.spending import BUDGET, spending
from tests.stages.altered import changed


@pytest.fixture
def hour(configuration: Configuration) -> Configuration:
    return changed(configuration, "run", budget="1h")


def test_spending_goes_on_from_what_was_spent(hour: Configuration, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    with spending(hour, folder, time.monotonic() - 60) as budget:
        budget.leave_out("SAFS")
        assert folder.exists(f"{JOURNALS}/{BUDGET}"), "what is left out is written down at once"
    with spending(hour, folder, time.monotonic()) as again:
        assert again.left_out == ["SAFS"]
        assert again.spent == pytest.approx(budget.spent, abs=5)
        assert again.left == pytest.approx(3600 - again.spent, abs=5)


def test_spending_is_written_down_while_a_run_spends(configuration: Configuration, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    with spending(changed(configuration, "run", budget="1s"), folder, time.monotonic()):
        until = time.monotonic() + 10
        while not folder.exists(f"{JOURNALS}/{BUDGET}") and time.monotonic() < until:
            time.sleep(0.1)
        assert (folder / JOURNALS).read_json(BUDGET)["spent"] >= 1


def test_spending_of_a_run_without_a_budget_leaves_no_file(configuration: Configuration, tmp_path: Path) -> None:
    with spending(configuration, Folder.at(tmp_path), time.monotonic()) as budget:
        assert math.isinf(budget.left)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damaged", [b"{", b"[3]", b"7"])
def test_spending_begins_anew_where_its_file_is_damaged(hour: Configuration, tmp_path: Path, damaged: bytes) -> None:
    (Folder.at(tmp_path) / JOURNALS).write(BUDGET, damaged)
    with spending(hour, Folder.at(tmp_path), time.monotonic()) as budget:
        assert budget.spent < 60
