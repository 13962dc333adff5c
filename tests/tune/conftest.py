"""What tests of whole runs share: a folder of runs, a small configuration, and a run that nothing disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from safs_ray.config import Configuration
from tests.command import start, written
from tests.tune.runs import ENDS


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("command")


@pytest.fixture(scope="session")
def tiny(folder: Path, configuration: Configuration) -> Path:
    """A configuration file whose runs go to this folder."""
    return written(folder / "tiny.yaml", configuration, "tiny", folder / "runs")


@pytest.fixture(scope="session")
def finished(folder: Path, tiny: Path) -> Path:
    """The folder of a run that nothing disturbed."""
    process = start(str(tiny), f"run.events={folder / 'events.jsonl'}")
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    (folder / "output.txt").write_text(output)
    return folder / "runs" / "tiny"
