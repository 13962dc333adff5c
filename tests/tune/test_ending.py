from __future__ import annotations

import re
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError, WorkerCrashedError

from safs_ray.config import Configuration, ConfigurationError, dump
from safs_ray.experiment import FailedSearchError
from safs_ray.storage import Folder
from safs_ray.tune.ending import FAILURE, ending, left

COMMAND = "python -m safs_ray.tune model.name=mine:network run.name=mine"
TRACEBACK = '\x1b[36mray::prepare()\x1b[39m (pid=7)\n  File "mine.py", line 3\nRuntimeError: no such device'
GO_ON = r"(\S+/)?python -m safs_ray\.tune --resume"
KEPT = "finished and kept: nothing yet; the rest is left"
AGAIN = "Resumed as it is, it would end the same way; once the cause is mended, go on with:"


@pytest.fixture
def folder(tmp_path: Path, configuration: Configuration) -> Folder:
    """Of a run that has just been begun."""
    begun = Folder.at(tmp_path / "run")
    begun.write("config.yaml", dump(configuration).encode())
    return begun


def raised(cause: Exception) -> Exception:
    """What came out of a task, with the traceback that it has in the driver."""
    try:
        raise RayTaskError("prepare", TRACEBACK, cause).as_instanceof_cause()
    except RayTaskError as error:
        return error


def test_what_code_raises_is_one_line_and_a_file(folder: Folder) -> None:
    code, line = ending(raised(RuntimeError("no such device\nhere")), folder, COMMAND)
    assert code == 1
    start = f"failed: RuntimeError: no such device; traceback in {folder}/failure.txt; {KEPT}. {AGAIN} "
    assert line.startswith(start)
    assert re.fullmatch(f"{GO_ON} {folder}", line.removeprefix(start))
    told = folder.read(FAILURE).decode()
    assert told.splitlines()[0] == COMMAND
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d .+", told.splitlines()[1])
    assert re.fullmatch(r"Python 3\.\S+, safs_ray \S+, ray \S+, torch \S+, .*", told.splitlines()[2])
    assert "Traceback (most recent call last):" in told
    assert 'ray::prepare() (pid=7)\n  File "mine.py", line 3' in told
    assert "\x1b" not in told


def test_a_search_without_a_trial_tells_how_it_failed(folder: Folder) -> None:
    error = FailedSearchError("SAFS: none of 2 trials reached its end; 2 failed (ValueError: no such device)")
    error.__cause__ = raised(ValueError("no such device"))
    code, line = ending(error, folder, COMMAND)
    assert code == 1
    assert line.startswith(f"failed: {error}; traceback in {folder}/failure.txt; {KEPT}. {AGAIN} ")
    assert "ray::prepare()" in folder.read(FAILURE).decode()


@pytest.mark.parametrize("error", [WorkerCrashedError(), raised(OSError(28, "No space left on device"))], ids=str)
def test_what_was_lost_is_gone_on_with(folder: Folder, error: Exception) -> None:
    code, line = ending(error, folder, COMMAND)
    assert code == 1
    assert re.search(f"; {KEPT}\\. Go on with: {GO_ON} {folder}$", line)


def test_a_refusal_by_a_stage_is_bad_input_without_a_traceback(folder: Folder) -> None:
    refusal = "dense.hyperparameters.learning_rate=100.0: the training diverges"
    code, line = ending(raised(ConfigurationError(refusal)), folder, COMMAND)
    assert code == 2
    assert line.startswith(f"error: {refusal}; {KEPT}. {AGAIN} ")
    assert not folder.exists(FAILURE)


def test_a_refusal_before_any_stage_is_the_refusal_alone(folder: Folder) -> None:
    assert ending(ConfigurationError("a=1: no"), folder, COMMAND) == (2, "error: a=1: no")


def test_an_interruption_is_gone_on_with(folder: Folder) -> None:
    code, line = ending(KeyboardInterrupt(), folder, COMMAND)
    assert code == 130
    assert re.fullmatch(f"interrupted; {KEPT}\\. Go on with: {GO_ON} {folder}", line)
    assert not folder.exists(FAILURE)


def test_where_nothing_was_begun_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "run")
    code, line = ending(raised(ValueError("no")), folder, COMMAND)
    assert code == 1
    assert line == f"failed: ValueError: no; traceback in {folder}/failure.txt; nothing was begun"


def test_a_folder_that_takes_no_file_leaves_the_traceback_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("a file, in which there is no folder")
    folder = Folder.at(tmp_path / "file" / "run")
    _, line = ending(raised(ValueError("no")), folder, COMMAND)
    assert line == "failed: ValueError: no; nothing was begun"
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last):" in printed
    assert 'File "mine.py", line 3' in printed
    ending(raised(OSError(30, "Read-only file system")), folder, COMMAND)
    assert capsys.readouterr().err == "", "of a disk the message says all"


def test_the_traceback_of_a_run_in_a_bucket_lies_there(bucket: str, configuration: Configuration) -> None:
    folder = Folder.at(bucket.replace("s3://bucket", "s3://bucket/run"))
    folder.write("config.yaml", dump(configuration).encode())
    _, line = ending(raised(ValueError("no")), folder, COMMAND)
    assert f"traceback in {folder / FAILURE}; {KEPT}. {AGAIN}" in line
    assert folder.read(FAILURE).decode().startswith(f"{COMMAND}\n")


def test_an_end_is_told_on_a_storage_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(Folder, "exists", gone)
    told = left(Folder("/bucket/run"), again=False)
    assert told.startswith("what was finished is kept. Go on with: ")
    assert told.endswith(" -m safs_ray.tune --resume /bucket/run")
