from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import mine, package.part, spread.part, torch, installed
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
    (tmp_path / "spread").mkdir()
    (tmp_path / "spread" / "part.py").touch()
    elsewhere = tmp_path / "lib" / "site-packages"
    elsewhere.mkdir(parents=True)
    (elsewhere / "installed.py").touch()
    (tmp_path / "program.py").write_text(f"import sys; sys.path.append({str(elsewhere)!r})\n{PROGRAM}")
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    given = {Path(line) for line in done.stdout.splitlines()}
    own = {path.name for path in given if path.is_relative_to(tmp_path)}
    assert own == {"mine.py", "its_own.py", "package", "spread"}
    assert {path.name for path in given} == own | {"safs_ray"}
