"""The code of a run: its versions, and what the workers of a cluster are given, so that nobody has to copy it."""

from __future__ import annotations

import platform
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import safs_ray

STANDARD = tuple(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib"))
PACKAGES = {"site-packages", "dist-packages"}
"""Where Python, and what is installed, lie: every node has been given them when it was set up."""


def modules() -> list[str]:
    """Folders and files of safs_ray and of every module of the user's own that this process has imported.

    A configuration's functions have been imported when it was checked, and with them what they import themselves.
    Modules that are installed, and not in editable form, are left to the environment of the nodes.
    """
    program = sys.modules["__main__"]
    places = {Path(safs_ray.__file__).resolve().parent}
    for name, module in list(sys.modules.items()):
        if "." not in name and module is not program:
            places.update(path for path in _places(module) if not _installed(path))
    return [str(path) for path in sorted(places) if path.is_dir() or path.suffix == ".py"]


def versions() -> str:
    """Of Python and of the packages that a run's results may depend on."""
    packages = ("safs_ray", "ray", "torch", "torchvision", "hyperopt", "numpy", "pyarrow")
    return ", ".join((f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)))


def _places(module: ModuleType) -> list[Path]:
    """The folders of a package, or the file of a module; none of what is built in."""
    folders = getattr(module, "__path__", None)
    file = getattr(module, "__file__", None)
    return [Path(place).resolve() for place in (folders or ([file] if file else []))]


def _installed(path: Path) -> bool:
    return bool(PACKAGES & set(path.parts)) or any(path.is_relative_to(place) for place in STANDARD)
