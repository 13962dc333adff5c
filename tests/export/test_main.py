from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from safs_ray.export.__main__ import main
from safs_ray.export.c import writing
from safs_ray.export.finished import FinishedRun
from safs_ray.export.loading import load
from safs_ray.export.measurement import accuracy
from safs_ray.metrics import METRICS


@pytest.mark.parametrize(("kind", "file"), [("safetensors", "network.safetensors"), ("torch", "network.pt2")])
def test_writes_the_file_and_its_card(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, file: str
) -> None:
    assert main([str(run_folder), "--format", kind, "--output", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MODEL_CARD.md", file]
    shown = capsys.readouterr().out
    size = (tmp_path / file).stat().st_size
    for part in (file, f"{size:,}", "MODEL_CARD.md", "on no path from the images", "on random images"):
        assert part in shown


def test_int8_tells_the_accuracy_before_and_after(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_folder), "--format", "c", "--int8", "--output", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MODEL_CARD.md", "network.c", "network.h"]
    shown, card = capsys.readouterr().out, (tmp_path / "MODEL_CARD.md").read_text()
    run = FinishedRun.read(str(run_folder))
    test = run.splits().test
    before = 100 * (run.best.test_accuracy or 0)
    files = {name: (tmp_path / name).read_bytes() for name in ("network.c", "network.h")}
    after = 100 * accuracy(writing.compiled(files), test, METRICS["accuracy"])
    assert abs(before - after) < 2
    said = f"n 8-bit integers it classifies {after:.2f} % of {len(test)} test images, before {before:.2f} %"
    assert f"i{said}\n" in shown
    assert f"I{said}.\n" in card
    assert "- output: logits: int32 (classes,), times NETWORK_UNIT\n" in card
    assert "int32_t logits[NETWORK_CLASSES];" in card
    assert "by the ranges that occur on " in card


def test_the_images_of_a_run_are_those_of_the_fold_of_its_best_network(run_folder: Path) -> None:
    run = FinishedRun.read(str(run_folder))
    assert run.best.test_accuracy == accuracy(load(run_folder, "dense"), run.splits().test, METRICS["accuracy"])
    found = accuracy(load(run_folder, "dense"), run.splits().validation, METRICS["accuracy"])
    assert run.best.validation_accuracy == found


def test_writes_into_the_run_folder_unless_told(run_folder: Path) -> None:
    assert main([str(run_folder)]) == 0
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    logits = load(run_folder / "export" / "safetensors" / "network.safetensors")(images)
    torch.testing.assert_close(logits, load(run_folder, "dense")(images))


def test_a_tilde_is_home(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").symlink_to(run_folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["~/run", "--output", "~/out"]) == 0
    assert (tmp_path / "out" / "network.safetensors").exists()


def test_mistakes_cost_one_line(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished, damaged = tmp_path / "unfinished", tmp_path / "damaged"
    shutil.copytree(run_folder, unfinished)
    (unfinished / "results.json").unlink()
    shutil.copytree(run_folder, damaged)
    (damaged / "results.json").write_text("{")
    (tmp_path / "file").touch()
    cases = [
        (["nowhere"], "run=nowhere: holds no config.yaml; allowed: the folder of a finished run"),
        ([str(unfinished)], f"run={unfinished}: is not finished; python -m safs_ray.tune --resume {unfinished}"),
        ([str(damaged)], f"run={damaged}: cannot be read (DamagedError: "),
        (["bad://place"], "run=bad://place: cannot be read (ValueError: "),
        ([str(run_folder), "--format", "tflite"], "format=tflite: allowed: safetensors, onnx, torch, c"),
        ([str(run_folder), "--int8"], "format=safetensors: has no 8-bit integers; allowed with --int8: c"),
        ([str(run_folder), "--output", str(tmp_path / "file" / "in")], f"output={tmp_path}/file/in: cannot be written"),
    ]
    for arguments, message in cases:
        assert main(arguments) == 2, arguments
        said = capsys.readouterr()
        assert said.err.startswith(f"error: {message}"[:100])
        assert said.err.count("\n") == 1
        assert not said.out
