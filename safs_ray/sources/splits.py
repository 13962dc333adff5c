"""Which files, or folders, hold the training images and which the test images, as their names say it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePath

from safs_ray.config import ConfigurationError, refusal

log = logging.getLogger("safs_ray")

TRAIN = ("train", "training")
TEST = ("test", "testing", "eval", "evaluation")
VALIDATION = ("val", "valid", "validation", "dev")
"""Words of names, in lower case, that say a split; as ``datasets`` 5.2 has them."""

WORDS = {word: words[0] for words in (TRAIN, TEST, VALIDATION) for word in words}

SHARD = re.compile(r"(?P<begin>.+)(?P<dash>[-_])(?P<number>\d+)(?P=dash)of(?P=dash)(?P<count>\d+)(?:-[0-9a-f]+)?")
"""The name of one of several files; in older sets a digest ends it."""

SHOWN = 3
"""Of what was left out, so much is told by name."""


def told(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def words_of(name: str) -> list[str]:
    """The words of a name that say a split.

    Examples:
        >>> words_of("Train-00000-of-00002"), words_of("latest"), words_of("train_dev")
        (['train'], [], ['train', 'dev'])
    """
    return [word for word in re.split(r"[-._ \d]+", name.lower()) if word in WORDS]


def folders(folder: Path, source: str) -> dict[str, Path]:
    """The folders in a folder that a split is named after, whatever the case: train, test, val.

    Of several that mean the same the first is taken, in the order of the words; the others are told of in one line.

    Raises:
        ConfigurationError: there is no such folder, or none of training images.
    """
    try:
        there = [entry for entry in sorted(folder.iterdir()) if entry.name.lower() in WORDS and entry.is_dir()]
    except OSError as error:
        raise _unreadable(error, folder, source) from None
    places: dict[str, Path] = {}
    order = list(WORDS)
    for place in sorted(there, key=lambda entry: (order.index(entry.name.lower()), not entry.name.islower())):
        places.setdefault(WORDS[place.name.lower()], place)
    if "train" not in places:
        raise refusal("data.source", source, f"there is no folder {folder / 'train'}")
    if others := [place.name for place in there if place not in places.values()]:
        log.warning("data.source=%s: not used: %s", source, told(others))
    return places


def split_to_test_on(names: Mapping[str, str], source: str) -> str | None:
    """The split that the test images come from: test, or val in its place, which is said; None where neither is there.

    That validation images are not used beside test images is said, too: every fold holds out training images.

    Args:
        names: by split, of a file or folder.
    """
    if "test" in names:
        if "val" in names:
            log.warning("data.source=%s: not used: %s, for there are test images", source, names["val"])
        return "test"
    if "val" in names:
        log.warning("data.source=%s: tests on %s, for there are no test images", source, names["val"])
        return "val"
    return None


def tables(folder: Path, source: str) -> dict[str, list[Path]]:
    """The Parquet files in a folder and those within it, by split: train, test, val; each in the order of its shards.

    A file is of the split that its own name says, or those of the folders it lies in. Where no name says any, all files
    are of train. Hidden files are left out; what else is, is told in one line.

    Args:
        source: as ``data.source`` has it, for messages.

    Raises:
        ConfigurationError: there is no such folder, none of its files is of train, or they do not belong together: they
            are of several data sets, or not all of the shards of one.
    """
    found = _parquets(folder, source)
    said = {path: {WORDS[word] for part in path.with_suffix("").parts for word in words_of(part)} for path in found}
    if found and not any(said.values()):
        log.warning("data.source=%s: all tables are of training images, for no name says a split", source)
        said = {path: {"train"} for path in found}
    _tell_of_others(said, source)
    splits: dict[str, list[PurePath]] = {}
    for path, names in said.items():
        if len(names) == 1:
            splits.setdefault(min(names), []).append(path)
    if "train" not in splits:
        there = f"; it holds {told([str(path) for path in found])}" if found else ""
        named = "FOLDER/train.parquet, FOLDER/data/train-00000-of-00002.parquet or FOLDER/train/0000.parquet"
        raise refusal("data.source", source, f"has no tables of training images, such as {named}{there}")
    _check_one_set(splits, source, folder)
    for paths in splits.values():
        _check_alike(paths, source)
        _check_shards(paths, source)
    return {split: [folder / path for path in paths] for split, paths in splits.items()}


def walk(folder: Path, fail: Callable[[OSError], None]) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, through links too, but not where they lead back to a folder that they lie in.

    Args:
        fail: is told of what cannot be looked into.
    """
    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        inner = Path(place).relative_to(folder)
        above = [folder / parent for parent in inner.parents] if inner.parts else []
        if any(parent.samefile(place) for parent in above):
            folders.clear()
        else:
            yield place, folders, names


def _parquets(folder: Path, source: str) -> list[PurePath]:
    """The tables below a folder, from it on; numbers in their names are sorted as numbers."""

    def fail(error: OSError) -> None:
        raise _unreadable(error, folder, source) from None

    found = []
    for place, folders, names in walk(folder, fail):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        inner = Path(place).relative_to(folder)
        found += [inner / name for name in names if name.lower().endswith(".parquet") and not name.startswith(".")]
    return sorted(found, key=lambda path: [part.zfill(20) if part.isdigit() else part for part in _parts(path)])


def _unreadable(error: OSError, folder: Path, source: str) -> ConfigurationError:
    if isinstance(error, FileNotFoundError):
        return refusal("data.source", source, f"there is no folder {error.filename}")
    instead = f"; it is a file: name the folder, {folder.parent}" if folder.is_file() else f" ({error.strerror})"
    return refusal("data.source", source, f"cannot look into {error.filename}{instead}")


def _parts(path: PurePath) -> list[str]:
    """The texts and the numbers that a path consists of."""
    return re.split(r"(\d+)", str(path))


def _tell_of_others(said: Mapping[PurePath, set[str]], source: str) -> None:
    """Say in one line which tables are taken for no split, or for two, and so not used."""
    none = [f"{path} (no split in its name)" for path, names in said.items() if not names]
    several = [f"{path} ({' and '.join(sorted(names))} in its name)" for path, names in said.items() if len(names) > 1]
    if others := none + several:
        log.warning("data.source=%s: not used: %s", source, told(others))


def _check_one_set(splits: Mapping[str, Sequence[PurePath]], source: str, folder: Path) -> None:
    """Refuse a folder of several data sets: what is left of a path without what says its split is that of the set."""
    homes = sorted({_home(path) for paths in splits.values() for path in paths})
    if len(homes) > 1:
        named = told([home or "the folder itself" for home in homes])
        instead = f"name one of them, such as data.source=parquet:{folder / homes[-1]}"
        raise refusal("data.source", source, f"holds tables of several data sets, in {named}; {instead}")


def _home(path: PurePath) -> str:
    return "/".join(takewhile(lambda part: not words_of(part), path.parent.parts))


def _check_alike(paths: Sequence[PurePath], source: str) -> None:
    """Refuse files of one split whose names differ by more than a number: they may be copies, or of two data sets.

    Within a folder that is named after the split any names will do, which is told of.
    """
    alike: dict[str, PurePath] = {}
    for path in paths:
        alike.setdefault(_without_numbers(path), path)
    if len({_without_numbers(path) for path in map(_named_after_split, paths)}) > 1:
        raise _in_two_forms(list(alike.values()), source)
    if len(alike) > 1:
        log.warning("data.source=%s: joined: %s", source, told([str(path) for path in paths]))
    elif numbers := _between(paths):
        log.warning("data.source=%s: of the files such as %s lacks number %s", source, paths[0], told(numbers))


def _named_after_split(path: PurePath) -> PurePath:
    """What of a path must be alike in all files of a split: up to the folder that says the split, or all of it."""
    said = [number for number, part in enumerate(path.parent.parts) if words_of(part)]
    return PurePath(*path.parts[: said[-1] + 1]) if said else path


def _without_numbers(path: PurePath) -> str:
    shard = SHARD.fullmatch(path.stem)
    return re.sub(r"\d+", "#", str(path.with_name(shard["begin"]) if shard else path).lower())


def _between(paths: Sequence[PurePath]) -> list[str]:
    """The numbers that lack between the least and the largest; none where names of one form differ by several."""
    numbers = [tuple(map(int, re.findall(r"\d+", str(path.with_suffix(""))))) for path in paths]
    if any(SHARD.fullmatch(path.stem) for path in paths):  # which say themselves how many there are
        return []
    varying = [set(column) for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    if len(varying) != 1:
        return []
    (there,) = varying
    if max(there) - min(there) >= 2 * len(there):  # such as dates
        return []
    return [str(number) for number in range(min(there), max(there)) if number not in there]


def _in_two_forms(paths: Sequence[PurePath], source: str) -> ConfigurationError:
    both = f"holds {told([str(path) for path in paths])} for one split; leave one set of files there"
    return refusal("data.source", source, both)


def _check_shards(paths: Sequence[PurePath], source: str) -> None:
    """Refuse files of one split that are not whole, as after a download that ended early, or there in two forms."""
    shards = {path: SHARD.fullmatch(path.stem) for path in paths}
    sets = {(path.parent, shard and (shard["begin"], shard["count"])) for path, shard in shards.items()}
    numbered = [shard for shard in shards.values() if shard]
    if not numbered:
        return
    numbers = sorted(int(shard["number"]) for shard in numbered)
    if len(sets) > 1 or len(set(numbers)) < len(numbers):
        raise _in_two_forms(paths, source)
    count = int(numbered[0]["count"])
    if numbers != list(range(count)):
        raise _lacking(paths[0], set(range(count)) - set(numbers), len(numbers), count, source)


def _lacking(path: PurePath, missing: set[int], there: int, count: int, source: str) -> ConfigurationError:
    if not missing:
        return refusal("data.source", source, f"holds more than the {count:,} files that {path} is one of")
    number = re.compile(r"\d+(?=[-_]of[-_]\d+)")
    name = number.sub(lambda found: str(min(missing)).zfill(len(found[0])), path.name)
    return refusal("data.source", source, f"lacks {path.with_name(name)}: {there:,} of {count:,} files are there")
