from __future__ import annotations

import json
from pathlib import Path

import pytest

from safs_ray.stages import Result
from safs_ray.storage import DamagedError, Folder


def test_results_are_saved_whole_or_not_at_all(pruned: Result, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "stage")
    pruned.network.save(folder)
    assert Result.load(folder) is None, "a network without its metrics is a stage that was interrupted"
    pruned.save(folder)
    loaded = Result.load(folder)
    assert loaded is not None
    assert loaded.network.fingerprint == pruned.network.fingerprint
    assert loaded.validation_accuracy == pruned.validation_accuracy


class TestDamage:
    """Files of a stage that has completed, and are not what was written."""

    @pytest.fixture
    def folder(self, pruned: Result, tmp_path: Path) -> Path:
        pruned.save(Folder.at(tmp_path))
        return tmp_path

    def told(self, folder: Path) -> str:
        with pytest.raises(DamagedError) as damaged:
            Result.load(Folder.at(folder))
        assert str(damaged.value).startswith(f"{folder}/")
        assert "\n" not in str(damaged.value)
        return str(damaged.value).removeprefix(f"{folder}/").replace(" is not what was written there", "")

    @pytest.mark.parametrize("name", ["metrics.json", "network.json", "network.safetensors"])
    def test_a_file_cut_anywhere(self, folder: Path, name: str) -> None:
        whole = (folder / name).read_bytes()
        for end in (0, 1, len(whole) // 2, len(whole) - 2):
            (folder / name).write_bytes(whole[:end])
            assert self.told(folder).startswith(f"{name}: it is no ")

    @pytest.mark.parametrize("name", ["network.json", "network.safetensors"])
    def test_a_missing_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        told = self.told(folder)
        assert told.startswith("metrics.json: of its network a file is missing (")
        assert name in told

    def test_files_of_another_stage(self, folder: Path, dense: Result, tmp_path: Path) -> None:
        other = tmp_path / "other"
        dense.save(Folder.at(other))
        metrics = (folder / "metrics.json").read_bytes()
        (folder / "metrics.json").write_bytes((other / "metrics.json").read_bytes())
        assert self.told(folder) == "metrics.json: it is of another network than lies there"
        (folder / "metrics.json").write_bytes(metrics)
        for name in ("network.json", "network.safetensors"):
            (folder / name).write_bytes((other / name).read_bytes())
        assert self.told(folder) == "metrics.json: it is of another network than lies there"

    @pytest.mark.parametrize(
        "change",
        [{"validation_accuracy": "0.5"}, {"test_accuracy": [1]}, {"core_seconds": None}, {"more": 1.0}, None],
    )
    def test_metrics_that_are_no_numbers(self, folder: Path, change: dict[str, object] | None) -> None:
        metrics = json.loads((folder / "metrics.json").read_text())
        changed = {"fingerprint": metrics["fingerprint"]} if change is None else {**metrics, **change}
        (folder / "metrics.json").write_text(json.dumps(changed))
        told = "metrics.json: it must hold the numbers validation_accuracy, test_accuracy, core_seconds"
        assert self.told(folder) == told

    @pytest.mark.parametrize("content", ["[]", "3", "{}", "null"])
    def test_metrics_of_nothing(self, folder: Path, content: str) -> None:
        (folder / "metrics.json").write_text(content)
        assert self.told(folder) == "metrics.json: it is of another network than lies there"
