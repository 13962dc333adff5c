from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from safs_ray.data import Examples
from safs_ray.export import measurement
from safs_ray.export.__main__ import main
from safs_ray.export.formats import INT8
from safs_ray.metrics import METRICS
from safs_ray.models import Specification
from safs_ray.network import Network


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forms that need no other process to be long in starting."""
    monkeypatch.setattr("safs_ray.export.measurement.FORMS", ("safetensors", INT8))


def test_measure_prints_and_writes_what_each_form_costs(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([str(run_folder), "--measure", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for part in ("safetensors", "safs_ray", "ms, 64", "the 99th percentile", "accuracy %", "measurement.json"):
        assert part in shown
    found = json.loads((tmp_path / "measurement.json").read_text())
    assert [(each["format"], each["runtime"]) for each in found] == [("safetensors", "safs_ray"), ("int8", "cc")]
    for form in found:
        assert list(form["latency"]) == ["1", "8", "64"]
        assert all(0 < each["median"] <= each["most"] for each in form["latency"].values())
        assert form["bytes"] > 0
        assert form["load"] > 0
        assert 0 <= form["memory"] <= form["loading"]
        assert 0 <= form["accuracy"] <= 1
        assert f"{100 * form['accuracy']:.2f}" in shown


def test_accuracy_counts_what_is_right_and_finite() -> None:
    test = Examples(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0]))
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, torch.nan]])
    assert measurement.accuracy(lambda _: logits, test, METRICS["accuracy"]) == pytest.approx(1 / 3)


def test_measure_goes_on_where_a_form_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safs_ray.export.measurement.FORMS", ("nothing", INT8))
    network = Network.initial(Specification("mlp", (1, 4, 4), 2, (0.5,), (0.5,)), 0)
    assert list(measurement.measure(network, None, METRICS["accuracy"])) == [
        "format=nothing: allowed: safetensors, onnx, torch, c",
        "format=int8: is quantised by validation images, which cannot be read",
    ]
