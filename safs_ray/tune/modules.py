"""The code that the workers of a cluster are given, so that nobody has to copy it to them."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import safs_ray

INSTALLED = tuple(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Where Python and the packages lie that every node has been given when it was set up."""


def modules() -> list[str]:
    """Folders and files of safs_ray and of every module of the user's own that this process has imported.

    A configuration's functions have been imported when it was checked, and with them what they import themselves.
    Modules that are installed, and not in editable form, are left to the environment of the nodes.
    """
    found = {Path(safs_ray.__file__).resolve().parent}
    program = sys.modules["__main__"]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or module is program or not file:
            continue
        path = Path(file).resolve()
        if not any(path.is_relative_to(place) for place in INSTALLED):
            found.add(path.parent if path.name == "__init__.py" else path)
    return [str(path) for path in sorted(found) if path.is_dir() or path.suffix == ".py"]
