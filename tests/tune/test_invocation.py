from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from safs_ray.config import CONFIGURATION, Configuration, ConfigurationError, dump
from safs_ray.storage import Folder
from safs_ray.tune.invocation import new, program, resume_command, resumed


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment in the folder that a person is in."""
    folder = tmp_path / "own environment"
    for name in ("python", "tensorboard"):
        made(folder / "bin" / name)
    monkeypatch.setattr(sys, "executable", str(folder / "bin" / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return folder


def made(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o755)


def test_a_program_of_an_environment_that_is_active_is_called_by_its_name(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(environment / "bin"))
    assert program("python") == "python"
    assert program("tensorboard") == "tensorboard"


def test_one_that_its_name_does_not_find_is_called_by_its_path(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program("python") == "'own environment/bin/python'"
    (tmp_path / "elsewhere").mkdir()
    made(tmp_path / "python")  # another one, which the name finds
    assert program("python") == "'own environment/bin/python'"
    assert resume_command(Folder.at(tmp_path / "runs")) == "'own environment/bin/python' -m safs_ray.tune --resume runs"
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert program("tensorboard") == f"'{environment}/bin/tensorboard'"


def test_one_that_is_not_beside_python_keeps_its_name(environment: Path) -> None:
    (environment / "bin" / "tensorboard").unlink()
    assert program("tensorboard") == "tensorboard"


def test_a_tilde_is_home_in_all_that_the_command_is_given(
    configuration: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(dump(configuration))
    assert new(["~/mine.yaml", "run.storage=~/runs", "run.name=mine"]).location == f"{tmp_path}/runs/mine"
    Folder.at(tmp_path / "runs" / "mine").write(CONFIGURATION, dump(configuration).encode())
    assert resumed("~/runs/mine", []).location == f"{tmp_path}/runs/mine"
    with pytest.raises(ConfigurationError, match=r"runs/mine holds an unfinished run \("):
        new(["~/mine.yaml", "run.storage=~/runs", "run.name=mine"])
    with pytest.raises(ConfigurationError, match=r"^--resume=~nobody-of-this-name: there is no user"):
        resumed("~nobody-of-this-name", [])


def test_a_structure_given_to_a_run_that_was_begun_is_named_with_the_reason(
    configuration: Configuration, tmp_path: Path
) -> None:
    Folder.at(tmp_path / "run").write(CONFIGURATION, dump(configuration).encode())
    with pytest.raises(
        ConfigurationError, match=r"^pruning\.structure=2:4: the run was begun with 'unstructured', and"
    ):
        resumed(str(tmp_path / "run"), ["pruning.structure=2:4"])


MISTAKEN = """
import runpy, sys
sys.argv[1:] = ["search.stepz=5"]
try:
    runpy.run_module("safs_ray.tune", run_name="__main__")
except SystemExit as end:
    print(end.code, *({"ray", "torch", "scipy", "numba", "tensorboard"} & {*sys.modules}))
"""


def test_a_mistaken_invocation_is_told_of_before_anything_heavy_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", MISTAKEN], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["2"]
