"""The names of a run's classes, which its images are read with and its network does not hold."""

from __future__ import annotations

from collections.abc import Sequence

from safs_ray.config import shortened
from safs_ray.storage import Folder

CLASSES = "classes.json"
"""File of a run folder whose source names its classes: the names in the order of the labels, which is the logits'."""

SHOWN = 100
"""So many classes are told by name."""


def write_classes(names: Sequence[str], folder: Folder) -> None:
    """Write the names into a run folder, where there are any."""
    if names:
        folder.write_json(CLASSES, list(names))


def read_classes(folder: Folder) -> tuple[str, ...]:
    """The names of a run's classes; empty where its source has none, as in runs of older versions.

    Raises:
        DamagedError: the file is not what was written.
    """
    if not folder.exists(CLASSES):
        return ()
    names = folder.read_json(CLASSES)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise folder.damaged(CLASSES, "it is no list of names")
    return tuple(names)


def told(names: Sequence[str]) -> str:
    """The classes in one line, each with its label.

    Examples:
        >>> told(["cat", "dog"])
        '0 cat, 1 dog'
    """
    shown = (f"{label} {shortened(' '.join(name.split()))}" for label, name in enumerate(names[:SHOWN]))
    more = f", … and {len(names) - SHOWN:,} more in {CLASSES}" if len(names) > SHOWN else ""
    return ", ".join(shown) + more
