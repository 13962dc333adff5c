from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import mine, package.part, torch
from safs_ray.tune.modules import modules
print(*modules(), sep="\\n")
"""


def test_workers_are_given_safs_ray_and_what_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import its_own")
    (tmp_path / "its_own.py").touch()
    (tmp_path / "unused.py").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "part.py").touch()
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    given = {Path(line) for line in done.stdout.splitlines()}
    own = {path.name for path in given if path.is_relative_to(tmp_path)}
    assert own == {"mine.py", "its_own.py", "package"}
    assert {path.name for path in given} == own | {"safs_ray"}
