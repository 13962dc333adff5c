"""The Makefile: which build of PyTorch is installed, and when. A script that notes its calls is Python and uv."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

MAKEFILE = Path(__file__).parent.parent / "Makefile"

SCRIPT = """#!/bin/sh
echo "$(basename $0) $*" >> calls
test "$2" != venv || { mkdir -p .venv/bin; cp "$0" .venv/bin/python; }
test "$2" != pip || cp "$0" .venv/bin/uv
! echo "$*" | grep -q torch-backend=wrong
"""
"""Python: makes an environment with itself as python, and installs itself as uv, which knows no build ``wrong``."""

INSTALLED = "uv pip install --python .venv/bin/python"
MADE = ["python3 -m venv .venv", "python -m pip install --quiet uv"]
NOTICE = ".venv has another build of PyTorch than TORCH={} asks for: it is made anew"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(SCRIPT)
    python.chmod(0o755)
    return tmp_path


def make(checkout: Path, *arguments: str) -> tuple[list[str], str]:
    """The calls of Python and uv, and what make says."""
    (checkout / "calls").write_text("")
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = ["make", *arguments]
    environment = {"PATH": path, "LC_ALL": "C"}
    done = subprocess.run(
        command, cwd=checkout, env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    return (checkout / "calls").read_text().splitlines(), done.stdout


def test_makefile_takes_pytorch_from_the_package_index_by_default(checkout: Path) -> None:
    calls, _ = make(checkout, "run")
    assert calls == [*MADE, f"{INSTALLED} --compile-bytecode -e .", "python -m safs_ray.tune"]


@pytest.mark.parametrize(
    ("goal", "what"),
    [("run", "--compile-bytecode -e ."), ("test", "--compile-bytecode -e .[test]"), ("docs", "-e .[docs]")],
)
def test_makefile_gives_torch_to_uv(checkout: Path, goal: str, what: str) -> None:
    calls, _ = make(checkout, f".venv/{goal}", "TORCH=cpu")
    assert calls == [*MADE, f"{INSTALLED} --torch-backend=cpu {what}"]


def test_makefile_installs_nothing_twice(checkout: Path) -> None:
    make(checkout, ".venv/run", "TORCH=cpu")
    assert make(checkout, ".venv/run", "TORCH=cpu")[0] == []
    assert make(checkout, ".venv/run")[0] == []


def test_makefile_keeps_the_build_that_an_environment_has(checkout: Path) -> None:
    make(checkout, ".venv/run", "TORCH=cpu")
    calls, said = make(checkout, ".venv/test")
    assert calls == [f"{INSTALLED} --torch-backend=cpu --compile-bytecode -e .[test]"]
    assert "anew" not in said


@pytest.mark.parametrize(("before", "after", "backend"), [("", "cpu", " --torch-backend=cpu"), ("cpu", "", "")])
def test_makefile_makes_the_environment_anew_for_another_build_and_says_so(
    checkout: Path, before: str, after: str, backend: str
) -> None:
    make(checkout, ".venv/run", f"TORCH={before}")
    (checkout / ".venv" / "cuda").touch()
    calls, said = make(checkout, ".venv/run", f"TORCH={after}")
    assert said.splitlines()[0] == NOTICE.format(after)
    assert calls == [*MADE, f"{INSTALLED}{backend} --compile-bytecode -e ."]
    assert not (checkout / ".venv" / "cuda").exists()


def test_makefile_keeps_an_environment_from_before_it_wrote_down_the_build(checkout: Path) -> None:
    make(checkout, ".venv/run")
    (checkout / ".venv" / "torch").unlink()
    calls, said = make(checkout, ".venv/test")
    assert calls == [f"{INSTALLED} --compile-bytecode -e .[test]"]
    assert "anew" not in said


def test_makefile_forgets_a_build_that_could_not_be_installed(checkout: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        make(checkout, ".venv/run", "TORCH=wrong")
    assert make(checkout, ".venv/run")[0] == [f"{INSTALLED} --compile-bytecode -e ."]
