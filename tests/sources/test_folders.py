"""Parquet files and image folders that are damaged, at many places."""

from __future__ import annotations

import io
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.data import Dataset
from safs_ray.sources import load


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The training images of the source parquet:images, four of them."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name in ("train", "test"):
        images = [{"bytes": png(seed), "path": f"{seed}.png"} for seed in range(4)]
        pq.write_table(pa.table({"image": images, "label": [0, 1, 0, 1]}), f"images/{name}.parquet")
    return Path("images/train.parquet")


def refused(source: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(DataSection(source=source))
    told = str(caught.value)
    assert told.isprintable()
    return told


def loaded_or_refused(source: str) -> Dataset | str:
    """What a source holds, or the line with which it is refused; any other error passes."""
    try:
        return load(DataSection(source=source))
    except ConfigurationError as error:
        return str(error)


def test_a_parquet_file_cut_anywhere_is_refused_by_name(parquet: Path) -> None:
    whole = parquet.read_bytes()
    draws = random.Random(0)
    for end in [0, 1, 4, len(whole) - 8, len(whole) - 1, *draws.sample(range(len(whole)), 40)]:
        parquet.write_bytes(whole[:end])
        assert refused("parquet:images").startswith("data.source=parquet:images: train.parquet cannot be read ("), end


def test_a_parquet_file_changed_anywhere_is_read_or_refused_by_name(parquet: Path) -> None:
    """Parquet has no sums of its own, so that names, labels and paths can change unseen."""
    whole = parquet.read_bytes()
    draws = random.Random(0)
    for place in [*range(len(whole) - 60, len(whole)), *draws.sample(range(len(whole)), 250)]:
        changed = bytearray(whole)
        changed[place] = draws.randrange(256)
        parquet.write_bytes(changed)
        found = loaded_or_refused("parquet:images")
        if isinstance(found, str):
            assert found.isprintable(), place
            assert found.startswith("data.source=parquet:images: "), place
            assert "train.parquet" in found or "labels must be 0, 1" in found, place


def test_of_columns_of_one_name_none_is_taken(parquet: Path) -> None:
    table = pq.read_table(parquet)
    twice = pa.Table.from_arrays([*table.columns, table["label"]], [*table.column_names, "label"])
    pq.write_table(twice, parquet)
    assert refused("parquet:images") == (
        "data.source=parquet:images: train.parquet needs the columns image (or img) and label; "
        "it has image, label, label"
    )


def test_a_small_file_of_more_rows_than_memory_holds_is_refused_before_they_are_read(
    parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 100_000
    images = pa.array([png(0)]).take(pa.array(np.zeros(rows, np.int64)))
    pq.write_table(pa.table({"image": images, "label": np.arange(rows) % 2}), parquet, row_group_size=rows)
    assert parquet.stat().st_size < 200_000
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000_000))
    assert refused("parquet:images") == (
        "data.source=parquet:images: train.parquet needs 1.6 MB of memory for the labels of 100,000 rows, "
        "and 1.0 MB are free"
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source imagefolder:images, an image of each of two classes and another one of each."""
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        for kind in ("cat", "dog"):
            Path("images", part, kind).mkdir(parents=True)
            for seed in range(2):
                Path("images", part, kind, f"{seed}.png").write_bytes(png(seed))
    return Path("images")


@pytest.mark.parametrize(
    "content",
    [b"", b"a text called .png", b"<svg/>", b"\x89PNG\r\n\x1a\n", png(0)[:-40], png(0).replace(b"IHDR", b"IHAR")],
)
def test_a_file_that_is_no_image_is_refused_by_its_path(folder: Path, content: bytes) -> None:
    (folder / "test/dog/1.png").write_bytes(content)
    assert refused("imagefolder:images").startswith(
        "data.source=imagefolder:images: images/test/dog/1.png is not an image ("
    )


def test_a_link_to_nowhere_and_a_folder_called_png_are_no_images(folder: Path) -> None:
    (folder / "train/cat/2.png").symlink_to("nowhere.png")
    assert "images/train/cat/2.png is not an image (" in refused("imagefolder:images")
    (folder / "train/cat/2.png").unlink()
    (folder / "train/cat/2.png").mkdir()
    assert torch.equal(load(DataSection(source="imagefolder:images")).pool.labels, torch.tensor([0, 0, 1, 1]))


def test_an_empty_class_folder_is_refused_by_name(folder: Path) -> None:
    (folder / "train/eel").mkdir()
    told = refused("imagefolder:images")
    assert told.startswith("data.source=imagefolder:images: ")
    assert "eel" in told


def test_of_many_classes_that_lack_one_is_named(folder: Path) -> None:
    for number in range(300):
        (folder / f"test/class{number:03}").mkdir()
        (folder / f"test/class{number:03}/0.png").write_bytes(png(0))
    assert refused("imagefolder:images") == (
        "data.source=imagefolder:images: train has no folder of the class class000"
    )
