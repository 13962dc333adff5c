"""A folder of image files for each class."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from safs_ray.config import refusal
from safs_ray.sources import splits
from safs_ray.sources.decoding import Decoder
from safs_ray.sources.images import one_line
from safs_ray.sources.part import Part, set_aside
from safs_ray.sources.pictures import extensions

log = logging.getLogger("safs_ray")


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
            tuple(paths),
        )


def imagefolder(folder: Path, decoder: Decoder) -> tuple[Part, Part]:
    """FOLDER/train/CLASS/* and FOLDER/test/CLASS/*, any image format that Pillow reads, whatever the case of the names.

    Validation images, in val/, valid/, validation/ or dev/, stand in for test images that lack; without either, some of
    the training images. Files that are hidden or not named as images are skipped, and so are hidden folders and folders
    without images.

    Raises:
        ConfigurationError: a folder is missing, holds no class, or the parts have different classes.
    """
    places = splits.folders(folder, decoder.source)
    tested = splits.split_to_test_on({split: place.name for split, place in places.items()}, decoder.source)
    found = {name: _classes(places[name], decoder.source) for name in ("train", tested) if name}
    _tell_of_skipped(found.values(), decoder.source)
    names = sorted(found["train"].present)
    train = found["train"].part(names, decoder)
    if tested is None:
        return set_aside(train, decoder.source)
    _check_same(places["train"].name, found["train"], places[tested].name, found[tested], decoder.source)
    return train, found[tested].part(names, decoder)


def _check_same(train: str, trained: Classes, test: str, tested: Classes, source: str) -> None:
    """Refuse classes of which one part has no images."""
    for name, one, other in ((test, trained, tested), (train, tested, trained)):
        if lacking := sorted(one.present - other.present):
            what = "images" if lacking[0] in other.files else "folder"
            _refuse(source, f"{name} has no {what} of the class {lacking[0]}")


def _tell_of_skipped(found: Iterable[Classes], source: str) -> None:
    if skipped := [path for classes in found for path in classes.skipped]:
        log.warning("data.source=%s: skipped %s", source, splits.told(skipped))


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
    for place, _, names in sorted(splits.walk(folder, fail)):
        hidden = any(part.startswith(".") for part in Path(place).relative_to(folder).parts)
        for name in sorted(names):
            known = Path(name).suffix.lower() in extensions() and not name.startswith(".")
            (images if known and not hidden else others).append(f"{place}/{name}")
    return images, [str(Path(other).relative_to(folder)) for other in others]


def _refuse(source: str, fault: str) -> NoReturn:
    raise refusal("data.source", source, fault)
