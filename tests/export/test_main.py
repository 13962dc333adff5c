from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from safs_ray.export.__main__ import main
from safs_ray.export.loading import load


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
        ([str(run_folder), "--output", str(tmp_path / "file" / "in")], f"output={tmp_path}/file/in: cannot be written"),
    ]
    for arguments, message in cases:
        assert main(arguments) == 2, arguments
        said = capsys.readouterr()
        assert said.err.startswith(f"error: {message}"[:100])
        assert said.err.count("\n") == 1
        assert not said.out
