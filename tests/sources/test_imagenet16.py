"""Batches as published, with a few images."""

from __future__ import annotations

import hashlib
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.sources import load
from safs_ray.sources.imagenet16 import SUMS, read


def write(folder: Path, name: str, labels: list[int], seed: int) -> dict[str, Any]:
    """A batch in the published layout; returns its content."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 768), dtype=np.uint8)
    batch = {"data": pixels, "labels": labels, "mean": pixels.mean(0)}
    (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return batch


def sums_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture
def batches(tmp_path: Path) -> list[dict[str, Any]]:
    labels = {"train_data_batch_1": [1, 4, 1000], "train_data_batch_2": [3, 2], "val_data": [2, 7, 1]}
    return [write(tmp_path, name, values, seed) for seed, (name, values) in enumerate(labels.items())]


def test_batches_are_joined_and_the_published_validation_images_are_the_test(
    tmp_path: Path, batches: list[dict[str, Any]]
) -> None:
    train, test = read(tmp_path, 1000, sums_of(tmp_path))
    assert train.labels.tolist() == [0, 3, 999, 2, 1]
    assert test.labels.tolist() == [1, 6, 0]
    images = train.images()
    assert images.shape == (5, 3, 16, 16)
    assert images.dtype == np.uint8
    assert np.array_equal(images[4, 0].ravel(), batches[1]["data"][1, :256]), "the first 256 values are red"
    assert np.array_equal(images[4, 2, 15], batches[1]["data"][1, 752:])
    assert np.array_equal(test.images().reshape(3, 768), batches[2]["data"])


@pytest.mark.usefixtures("batches")
def test_only_the_first_classes_are_kept(tmp_path: Path) -> None:
    train, test = read(tmp_path, 3, sums_of(tmp_path))
    assert train.labels.tolist() == [0, 2, 1]
    assert test.labels.tolist() == [1, 0]
    assert len(train.images()) == 3


def test_a_file_of_another_sum_is_refused_and_never_unpickled(tmp_path: Path, batches: list[dict[str, Any]]) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "harm",)

    sums = sums_of(tmp_path)
    (tmp_path / "train_data_batch_2").write_bytes(pickle.dumps({**batches[1], "mean": Harm()}))
    found = sums_of(tmp_path)["train_data_batch_2"]
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, 1000, sums)
    assert str(refused.value).endswith(
        f"train_data_batch_2 is not the published file: its md5 is {found}, must be {sums['train_data_batch_2']}"
    )
    assert not (tmp_path / "harm").exists()


def test_a_file_cut_anywhere_is_refused_by_name(tmp_path: Path, batches: list[dict[str, Any]]) -> None:
    assert len(batches) == 3
    sums, draws = sums_of(tmp_path), random.Random(0)
    for name in sums:
        whole = (tmp_path / name).read_bytes()
        for end in (0, len(whole) - 1, *draws.sample(range(len(whole)), 5)):
            (tmp_path / name).write_bytes(whole[:end])
            with pytest.raises(ConfigurationError, match=f": {name} is not the published file: its md5 is "):
                read(tmp_path, 1000, sums)
        (tmp_path / name).write_bytes(whole)


@pytest.mark.usefixtures("batches")
def test_a_file_larger_than_any_published_one_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = sums_of(tmp_path)
    monkeypatch.setitem(read.__globals__, "LARGEST", 50_000)
    with (tmp_path / "val_data").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigurationError, match=r"val_data is not the published file: it has more than 50,000 bytes$"):
        read(tmp_path, 1000, sums)


@pytest.mark.usefixtures("batches")
def test_the_source_opens_only_the_published_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as refused:
        load(DataSection(source="imagenet16-120:."))
    assert str(refused.value).startswith("data.source=imagenet16:.: train_data_batch_1 is not the published file: ")
    assert str(refused.value).endswith("must be 27846dcaa50de8e21a7d1a35f30f0e91")


def test_there_are_eleven_published_files() -> None:
    assert len(SUMS) == len(set(SUMS.values())) == 11
    assert all(len(md5) == 32 for md5 in SUMS.values())


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(DataSection(source="imagenet16:nowhere"))
    assert str(refused.value) == (
        "data.source=imagenet16:nowhere: nowhere/train_data_batch_1 cannot be read (No such file or directory)"
    )


@pytest.mark.parametrize("classes", [0, 1, 1001])
def test_other_numbers_of_classes_are_refused(classes: int) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(DataSection(source=f"imagenet16-{classes}:here"))
    assert str(refused.value) == f"data.source=imagenet16-{classes}:here: allowed: 2 to 1,000 classes"
