"""The programs that docs/library.md shows run as they stand there."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2]


def run_of(name: str) -> dict[str, object]:
    """What a program has defined at its end; the page shows it whole."""
    file = f"tests/docs/library/{name}.py"
    assert f'--8<-- "{file}"' in (FOLDER / "docs" / "library.md").read_text()
    return runpy.run_path(str(FOLDER / file))


def test_stage_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    defined = run_of("stage_by_stage")
    assert defined["last"].network.nonzero_weights == 2_510  # type: ignore[attr-defined]
    assert [each.phase for each in defined["search"].evaluations] == ["search"] * 4 + ["fine-tuning"] * 2  # type: ignore[attr-defined]
    assert capsys.readouterr().out.count("\n") == 2


def test_in_process(capsys: pytest.CaptureFixture[str]) -> None:
    best = run_of("in_process")["best"]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["dense", "pruned", "SAFS"]
    assert best.build()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)  # type: ignore[attr-defined]
