"""What the faults share: a run that nothing disturbed, and the table of what happened to those that were."""

from __future__ import annotations

from pathlib import Path

import pytest

from safs_ray.config import Configuration
from tests.command import written
from tests.faults.runs import Expected, Table, command, outcome

TABLE = pytest.StashKey[Table]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = Table()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash[TABLE]
    if table.rows:
        terminalreporter.write_sep("=", "faults")
        for line in table.markdown():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash[TABLE]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def tiny(runs: Path, configuration: Configuration) -> Path:
    """The configuration of every run: three trials, one at a time, of four evaluations and two stretches."""
    return written(runs / "tiny.yaml", configuration, "whole", runs)


@pytest.fixture(scope="session")
def expected(runs: Path, tiny: Path) -> Expected:
    """What a run that nothing disturbs ends with."""
    process = command(str(tiny))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return outcome(runs / "whole")
