"""A folder of image files for each class."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from safs_ray.config import refusal
from safs_ray.sources.decoding import Decoder
from safs_ray.sources.images import one_line
from safs_ray.sources.part import Part, place_of_test
from safs_ray.sources.pictures import extensions

log = logging.getLogger("safs_ray")

SHOWN = 3
"""Of what was skipped, so much is told by name."""


@dataclass(frozen=True)
class Classes:
    """What lies in train/ or test/.

    Attributes:
        files: paths of image files by the class that their folder is named after; none of an empty folder.
        skipped: paths, from train/ or test/ on, of what is no image and no folder of a class, and of folders without
            images.
    """

    files: Mapping[str, list[str]]
    skipped: list[str]

    @classmethod
    def of(cls, folder: Path) -> Classes:
        """Look through a folder.

        Raises:
            OSError: it is not there or cannot be read.
        """
        files: dict[str, list[str]] = {}
        skipped: list[str] = []
        for entry in sorted(folder.iterdir()):
            path = entry.relative_to(folder.parent)
            if not entry.is_dir() or entry.name.startswith("."):
                skipped.append(str(path))
                continue
            files[entry.name], others = _images(entry)
            skipped += [str(path / other) for other in others] if files[entry.name] else [f"{path} without images"]
        return cls(files, skipped)

    @property
    def present(self) -> set[str]:
        """The classes that have images."""
        return {name for name, files in self.files.items() if files}

    def part(self, names: list[str], decoder: Decoder) -> Part:
        """The images of these classes, whose labels are their places among them."""
        paths = [path for name in names for path in self.files[name]]
        labels = np.repeat(np.arange(len(names)), [len(self.files[name]) for name in names])
        return Part(
            labels,
            lambda chosen: decoder.decoded(((paths[row], paths[row]) for row in chosen), len(chosen)),
            tuple(names),
        )


def imagefolder(folder: Path, decoder: Decoder) -> tuple[Part, Part]:
    """FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, any image format that Pillow reads; val/ or valid/ if test/ lacks.

    Files that are hidden or not named as images are skipped, and so are hidden folders and folders without images.

    Raises:
        ConfigurationError: a folder is missing, holds no class, or the parts have different classes.
    """
    train = _classes(folder / "train", decoder.source)
    place = place_of_test(folder, "", decoder.source)
    test = _classes(place, decoder.source)
    for name, one, other in ((place.name, train, test), ("train", test, train)):
        if lacking := sorted(one.present - other.present):
            what = "images" if lacking[0] in other.files else "folder"
            _refuse(decoder.source, f"{name} has no {what} of the class {lacking[0]}")
    if skipped := train.skipped + test.skipped:
        more = f" and {len(skipped) - SHOWN:,} more" if len(skipped) > SHOWN else ""
        log.warning("data.source=%s: skipped %s%s", decoder.source, ", ".join(skipped[:SHOWN]), more)
    names = sorted(train.present)
    return train.part(names, decoder), test.part(names, decoder)


def _classes(place: Path, source: str) -> Classes:
    try:
        classes = Classes.of(place)
    except FileNotFoundError:
        _refuse(source, f"there is no folder {place}")
    except OSError as error:
        _refuse(source, one_line(error))
    if not classes.present:
        _refuse(source, f"{place} has no class folder with images, such as {place}/cat/1.png")
    return classes


def _images(folder: Path) -> tuple[list[str], list[str]]:
    """The paths of image files in a folder and in those within it, and of all others, these from the folder on.

    Raises:
        OSError: a folder cannot be read.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    images: list[str] = []
    others: list[str] = []
    for place, _, names in sorted(os.walk(folder, onerror=fail, followlinks=True)):
        hidden = any(part.startswith(".") for part in Path(place).relative_to(folder).parts)
        for name in sorted(names):
            known = Path(name).suffix.lower() in extensions() and not name.startswith(".")
            (images if known and not hidden else others).append(f"{place}/{name}")
    return images, [str(Path(other).relative_to(folder)) for other in others]


def _refuse(source: str, fault: str) -> NoReturn:
    raise refusal("data.source", source, fault)
