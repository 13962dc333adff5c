"""CONTRIBUTING.md: what it says of the rooms, of folders and of the Makefile is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_architecture import ROOMS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def first_cells(heading: str) -> list[str]:
    """The first cells of the table of this heading, without the marks of code."""
    table = TEXT.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [line.split("|")[1].strip().replace("`", "") for line in table]


def test_contributing_lists_the_rooms_in_reading_order() -> None:
    assert first_cells("room") == list(ROOMS)


def test_contributing_lists_folders_that_are_there() -> None:
    folders = [folder for cell in first_cells("folder") for folder in cell.split(", ")]
    assert folders == [folder for folder in folders if (ROOT / folder).is_dir()]
    assert "safs_ray/" in folders


@pytest.mark.parametrize("path", sorted(set(re.findall(r"tests/[\w/]+(?:\.py)?", TEXT))))
def test_contributing_names_tests_that_are_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_contributing_names_goals_of_the_makefile() -> None:
    goals = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make (run|test|docs|clean)\b", TEXT)) == goals
