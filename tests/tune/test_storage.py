"""Runs whose folder lies in a bucket, and storage that cannot hold one."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from safs_ray.config import Configuration, dump
from safs_ray.network import Network
from safs_ray.search.records import read_evaluations
from safs_ray.storage import Folder
from safs_ray.tune.__main__ import main
from tests.command import start


@pytest.fixture
def tiny(tmp_path: Path, configuration: Configuration) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(dump(configuration))
    return path


def refusal(tiny: Path, storage: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a run is refused."""
    assert main([str(tiny), "run.name=refused", f"run.storage={storage}"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def test_a_bucket_that_is_not_there_is_one_line(tiny: Path, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage = bucket.replace("bucket", "nowhere")
    told = refusal(tiny, storage, capsys)
    assert told.startswith("error: run.storage=s3://nowhere?endpoint_overr")
    assert "NO_SUCH_BUCKET" in told


def test_a_password_is_one_line_without_it(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refusal(tiny, "s3://KEY:hush@bucket/runs", capsys)
    assert told.startswith("error: run.storage=s3://***@bucket/runs: must hold no password")
    assert "hush" not in told


def test_a_file_for_a_folder_is_one_line(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refusal(tiny, str(tiny), capsys)
    assert told.startswith(f"error: run.storage={str(tiny)[:20]}")  # the middle of a long path is left out
    assert f"{str(tiny)[-20:]}: " in told
    assert "Not a directory" in told


@pytest.mark.slow
def test_a_run_in_a_bucket_goes_on_after_kill_9(tiny: Path, bucket: str, tmp_path: Path) -> None:
    """Begun with the server in the URI, and resumed with it in the environment."""
    keys = (str(tiny), "run.name=tiny", "final.ablations=[stage 1]")
    killed = start(*keys, f"run.storage={bucket.replace('?', '/runs?')}")
    assert killed.stdout is not None
    assert any("step  3 of  6" in line for line in killed.stdout)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    folder = Folder.at(bucket) / "runs" / "tiny"
    begun = read_evaluations(folder / "evaluations")

    address = folder.options.partition("endpoint_override=")[2].partition("&")[0]
    finish(start("--resume", "s3://bucket/runs/tiny", AWS_ENDPOINT_URL=f"http://{address}"))
    finish(start(*keys, f"run.storage={tmp_path}"))

    local = Folder.at(tmp_path / "tiny")
    evaluations, expected = (read_evaluations(run / "evaluations") for run in (folder, local))
    assert evaluations[: len(begun)] == begun
    assert [each.validation_accuracy for each in evaluations] == [each.validation_accuracy for each in expected]
    rows, expected_rows = (run.read_json("results.json")["rows"] for run in (folder, local))
    assert [row["test_accuracy"] for row in rows] == [row["test_accuracy"] for row in expected_rows]
    assert Network.load(folder / "networks" / "final/stage 1/fold-1").sites == ("act1", "act2")
    assert (folder / "search").folders() == ["SAFS"]
    assert (folder.folders(), folder.names()) == (local.folders(), local.names())


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    assert "Traceback" not in output
