"""The program that measures a GPU works, tried on a CPU: so it will when a GPU comes."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

CPU = torch.device("cpu")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    yield importlib.import_module("gpu")
    torch.set_flush_denormal(False)  # which preparing a process for trainings has set


def test_gpu_program_times_every_kind_of_network(program: Any) -> None:
    kinds = program.kinds(program.initial("mlp"))
    assert kinds["masks of 99 %"].sparsity == pytest.approx(0.99, abs=1e-4)
    assert 0.2 < 1 - kinds["a quarter of the multiply-adds"].sparsity <= 0.25
    for network in kinds.values():
        for way in ("float32, as torch runs it", "bf16, channels_last"):
            measured = program.step_of(network, way, CPU, batch=2, turns=1)
            assert measured["milliseconds"] > 0


def test_gpu_program_compares_two_trainings(program: Any) -> None:
    assert program.same_bits("mlp", CPU) is True


def test_gpu_program_trains_in_the_time_that_is_left(program: Any, tmp_path: Path) -> None:
    words = ["run.device=cpu", "data.source=digits", "data.size=8", "data.limit=60", "data.crop=0", "data.flip=false"]
    program.train(words, "mlp", program.Report(tmp_path, program.ENDING + 6))
    parts = json.loads((tmp_path / "gpu.json").read_text())
    (dense, sparse) = parts
    assert dense.startswith("mlp, dense, ")
    assert sparse.startswith("mlp, 99 %, ")
    assert int(dense.split()[2]) == pytest.approx(2 * int(sparse.split()[3]), abs=2)
    assert 0 < parts[dense]["test"] <= 1


def test_gpu_program_says_when_no_time_is_left_to_train(program: Any, tmp_path: Path) -> None:
    words = ["run.device=cpu", "data.source=digits", "data.size=8", "data.limit=60"]
    program.train(words, "mlp", program.Report(tmp_path, 1))
    assert json.loads((tmp_path / "gpu.json").read_text())["training"].startswith("no time: an epoch takes ")
