"""What continuous integration runs: a browser is installed where that can be, and the tests run in any case."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parent.parent / ".ci" / "run"
BASH = shutil.which("bash")
NONE = "Chromium could not be installed: no browser looks at the page."
CHROMIUM = "apt-get install -qq --yes --no-install-recommends chromium"

pytestmark = pytest.mark.skipif(BASH is None or shutil.which("timeout") is None, reason="needs bash and timeout")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder of programs, in which root can neither install nor find a browser, and make notes that it was called."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("dirname", "timeout", "touch"):
        (folder / name).symlink_to(str(shutil.which(name)))
    write(folder, "id", "echo 0")
    write(folder, "make", 'echo "make $*"')
    return folder


def write(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!{BASH}\n{script}\n")
    (folder / name).chmod(0o755)


def run(programs: Path) -> list[str]:
    """What the script and its programs say."""
    command = [str(BASH), str(RUN)]
    done = subprocess.run(command, env={"PATH": str(programs)}, check=True, capture_output=True, text=True, timeout=60)
    return (done.stderr + done.stdout).splitlines()


def test_ci_installs_debian_s_chromium(programs: Path) -> None:
    write(
        programs, "apt-get", f'echo "apt-get $*" >&2; [ "$1" = update ] || {shutil.which("touch")} {programs}/chromium'
    )
    assert run(programs) == ["apt-get update -qq", CHROMIUM, "make test"]


def test_ci_installs_nothing_where_there_is_a_browser(programs: Path) -> None:
    write(programs, "apt-get", "echo installed")
    write(programs, "google-chrome", "")
    assert run(programs) == ["make test"]


@pytest.mark.parametrize(
    "scripts",
    [{"apt-get": "exit 100"}, {"apt-get": '[ "$1" = update ]'}, {"id": "echo 1000", "apt-get": "echo called"}, {}],
    ids=["no network", "no such package", "not root", "no apt-get"],
)
def test_ci_says_that_no_browser_could_be_installed_and_tests_all_the_same(
    programs: Path, scripts: dict[str, str]
) -> None:
    for name, script in scripts.items():
        write(programs, name, script)
    assert run(programs) == [NONE, "make test"]


def test_ci_fails_where_the_tests_do(programs: Path) -> None:
    write(programs, "make", "exit 2")
    with pytest.raises(subprocess.CalledProcessError, match="exit status 2"):
        run(programs)


def test_ci_and_the_test_of_the_page_look_for_the_same_browsers() -> None:
    page = (Path(__file__).parent / "report" / "test_page.py").read_text()
    (named,) = [line for line in RUN.read_text().splitlines() if "command -v chromium" in line]
    quoted = ", ".join(f'"{name}"' for name in named.split()[2:-2])
    assert f"({quoted})" in page
