from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.references import lend
from safs_ray.stages import Result
from safs_ray.training import Context, Training, train

EXAMPLES = Path(__file__).parent.parent / "examples"

SHORT = (
    "dense.epochs=2", "pruning.epochs=4", "search.epochs=1", "search.steps=2", "finetune.epochs=1",
    "finetune.epochs_per_step=1", "tune.trials=1", "final.epochs=1", "final.finalists=1", "final.seeds=1",
    "run.verbose=0",
)  # fmt: skip
"""Every stage once."""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Any]:
    """An example as a module, in a folder of its own."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    return importlib.import_module


def rows_of(printed: str) -> dict[str, list[str]]:
    """The rows of a table, by their first words."""
    return {words[0]: words for line in printed.splitlines() if (words := line.split())}


@pytest.mark.slow
def test_own_network(example: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng():
        example("own_network").main()
    printed = capsys.readouterr().out
    assert {"dense", "pruned", "SAFS"} <= rows_of(printed).keys()
    name, difference = printed.splitlines()[-1].rsplit(": ", 1)
    assert name == "largest difference of the export"
    assert float(difference) < 1e-4
    assert (tmp_path / "deployed" / "network.pt2").exists()


@pytest.mark.parametrize(
    ("name", "weights", "kept"), [("breast_cancer", 6_144, 61), ("series", 4_848, 97), ("text", 10_304, 309)]
)
def test_examples_of_tables_signals_and_texts(
    example: Callable[[str], Any], capsys: pytest.CaptureFixture[str], name: str, weights: int, kept: int
) -> None:
    with torch.random.fork_rng():
        example(name).main(SHORT)
    rows = rows_of(capsys.readouterr().out)
    assert f"{weights:,}" in rows["dense"]
    assert f"{kept:,}" in rows["pruned"]
    assert f"{kept:,}" in rows["SAFS"]


@pytest.mark.parametrize("name", ["lightning_loop", "transformers_loop"])
def test_loops_of_other_libraries(
    example: Callable[[str], Any], pruned: Result, configuration: Configuration, splits: Splits, name: str
) -> None:
    """They train, stay sparse, and give the same bits again."""
    pytest.importorskip(name.removesuffix("_loop"))
    task = configuration.task.model_copy(update={"loop": lend(example(name).train, name)})
    own = configuration.model_copy(update={"task": task})
    reported: list[tuple[int, float]] = []
    context = Context(own, splits, report=lambda epoch, score: reported.append((epoch, score)))

    def trained() -> Network:
        return train(pruned.network, Training(context, own.pruning.hyperparameters, epochs=2, seed=0), None).network

    first, again = trained(), trained()
    assert first.fingerprint == again.fingerprint != pruned.network.fingerprint
    assert first.nonzero_weights == pruned.network.nonzero_weights
    assert all((first.state[weight][~mask] == 0).all() for weight, mask in first.masks.items())
    assert [epoch for epoch, _ in reported] == [1, 2, 1, 2]
    assert reported[:2] == reported[2:]


@pytest.mark.slow
def test_control(example: Callable[[str], Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    example("control").main(["--sparsities", "0.95", "--table", "table.md", "--settings", *SHORT])
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "\n".join(lines) in capsys.readouterr().out
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[:2] for row in cells] == [["CartPole-v1", "95%"], ["Pendulum-v1", "95%"]]
    assert all(0 < float(earned) <= 500 for earned in cells[0][2:])
    assert all(-2000 < float(earned) < 0 for earned in cells[1][2:])


def test_teacher_of_control_swings_the_pendulum_up(example: Callable[[str], Any]) -> None:
    pytest.importorskip("gymnasium")
    control = example("control")
    asleep = control.returns("Pendulum-v1", nn.Identity(), lambda states: 0 * states[:, :1], test=False)
    taught = control.returns("Pendulum-v1", nn.Identity(), control.teacher, test=False)
    assert asleep < -1000 < -250 < taught
