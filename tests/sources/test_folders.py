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
        "data.source=parquet:images: train.parquet needs the column label (or labels, fine_label, coarse_label); "
        "it has image, label, label; data.label_column=NAME takes another"
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


def test_a_link_back_to_the_folder_that_it_lies_in_is_followed_once(folder: Path) -> None:
    (folder / "train/cat/again").symlink_to((folder / "train/cat").absolute())
    assert torch.equal(load(DataSection(source="imagefolder:images")).pool.labels, torch.tensor([0, 0, 1, 1]))


def test_what_is_no_image_is_skipped_in_one_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An empty class folder, files of an editor and of a Mac, a list of labels, and checkpoints of notebooks."""
    (folder / "train/eel").mkdir()
    (folder / "train/.ipynb_checkpoints").mkdir()
    (folder / "train/.ipynb_checkpoints/0-checkpoint.png").write_bytes(png(7))
    (folder / "test/cat/.ipynb_checkpoints").mkdir()
    for name in (".ipynb_checkpoints/0-checkpoint.png", "._0.png", "Thumbs.db"):
        (folder / "test/cat" / name).write_bytes(png(7))
    (folder / "test/labels.csv").write_text("0,cat\n")
    loaded = load(DataSection(source="imagefolder:images"))
    assert loaded.pool.labels.tolist() == loaded.test.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(loaded.pool.inputs, loaded.test.inputs)
    assert caplog.messages == [
        "data.source=imagefolder:images: skipped train/.ipynb_checkpoints, train/eel without images, "
        "test/cat/._0.png and 3 more"
    ]


@pytest.mark.usefixtures("folder")
def test_a_folder_of_images_alone_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    loaded = load(DataSection(source="imagefolder:images"))
    assert (loaded.names, loaded.name_of(1), caplog.messages) == (("cat", "dog"), "dog", [])


def test_any_image_that_pillow_reads_is_taken_by_whatever_name_it_has(folder: Path) -> None:
    image = Image.fromarray(np.full((6, 6, 3), 9, np.uint8))
    for name in ("a.GIF", "b.jp2", "c.tga", "within/d.BMP"):
        (folder / "train/dog" / name).parent.mkdir(exist_ok=True)
        image.save(folder / "train/dog" / name)
    loaded = load(DataSection(source="imagefolder:images"))
    assert loaded.pool.labels.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert (loaded.pool.inputs[4:] == 9).all()


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "VAL"])
def test_where_there_is_no_test_folder_another_stands_in_and_is_named(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "test").rename(folder / name)
    assert len(load(DataSection(source="imagefolder:images")).test) == 4
    assert caplog.messages == [f"data.source=imagefolder:images: tests on {name}, for there are no test images"]


def test_of_several_folders_the_one_called_test_is_taken(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "val").mkdir()
    (folder / "Test").mkdir()
    assert len(load(DataSection(source="imagefolder:images")).test) == 4
    assert caplog.messages == [
        "data.source=imagefolder:images: not used: Test",
        "data.source=imagefolder:images: not used: val, for there are test images",
    ]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "VAL"])
def test_where_there_is_no_test_table_another_stands_in_and_is_named(
    parquet: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    parquet.with_name("test.parquet").rename(parquet.with_name(f"{name}.parquet"))
    assert load(DataSection(source="parquet:images")).test.labels.tolist() == [0, 1, 0, 1]
    told = f"data.source=parquet:images: tests on {name}.parquet, for there are no test images"
    assert caplog.messages == [told]


def test_without_any_test_images_one_in_five_is_set_aside_with_every_class_left(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "test").rename(folder / "others")
    for kind in ("cat", "dog"):
        for seed in range(2, 10):
            (folder / "train" / kind / f"{seed}.png").write_bytes(png(seed))
    (folder / "train/emu").mkdir()
    (folder / "train/emu/0.png").write_bytes(png(0))
    first, again = (load(DataSection(source="imagefolder:images")) for _ in range(2))
    assert torch.bincount(first.test.labels, minlength=3).tolist() == [2, 2, 0]
    assert torch.bincount(first.pool.labels).tolist() == [8, 8, 1]
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert first.names == ("cat", "dog", "emu")
    told = "there are no test images; one in 5 of the training images is set aside to test on, 4 images"
    assert caplog.messages[0] == f"data.source=imagefolder:images: {told}"


def test_training_images_that_are_set_aside_are_not_trained_on(folder: Path) -> None:
    (folder / "test").rename(folder / "others")
    for seed in range(2, 20):
        (folder / f"train/cat/{seed}.png").write_bytes(png(seed))
    loaded = load(DataSection(source="imagefolder:images"))
    every = torch.cat([loaded.pool.inputs, loaded.test.inputs]).flatten(1)
    assert sorted(every[torch.cat([loaded.pool.labels, loaded.test.labels]) == 0].tolist()) == sorted(
        np.asarray(Image.open(f"images/train/cat/{seed}.png")).transpose(2, 0, 1).ravel().tolist() for seed in range(20)
    )


@pytest.mark.parametrize("column", ["label", "labels", "fine_label"])
def test_labels_are_taken_by_the_names_that_they_have_on_the_hub(parquet: Path, column: str) -> None:
    for path in (parquet, parquet.with_name("test.parquet")):
        table = pq.read_table(path).rename_columns(["image", column])
        pq.write_table(table.append_column("coarse_label", [[5, 5, 5, 5]]), path)
    assert load(DataSection(source="parquet:images")).pool.labels.tolist() == [0, 1, 0, 1]


def test_a_row_that_has_only_the_path_of_its_image_is_named_with_what_to_do(parquet: Path) -> None:
    """As Dataset.to_parquet of an image folder writes it."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = [{"bytes": png(seed), "path": f"{seed}.png"} for seed in range(400)]
    images[300] = {"bytes": None, "path": "cats/300.png"}
    pq.write_table(pa.table({"image": pa.array(images, kind), "label": [0, 1] * 200}), parquet)
    told = refused("parquet:images")
    assert told == (
        "data.source=parquet:images: train.parquet has no bytes in row 300, but the path cats/300.png; embed the files "
        "before you write the table: dataset.with_format('arrow').map(datasets.table.embed_table_storage, batched=True)"
    )
    only_paths = [{"bytes": None, "path": "cats/0.png"}] * 4
    pq.write_table(pa.table({"image": only_paths, "label": [0, 1, 0, 1]}), parquet)
    assert "train.parquet has no bytes in row 0, but the path cats/0.png; embed" in refused("parquet:images")
    for paths in (["cats/0.png"] * 4, [{"path": "cats/0.png"}] * 4):
        pq.write_table(pa.table({"image": paths, "label": [0, 1, 0, 1]}), parquet)
        assert "train.parquet has no bytes in row 0, but the path cats/0.png; embed" in refused("parquet:images")


def test_a_class_that_only_the_test_images_have_is_refused(parquet: Path) -> None:
    table = pq.read_table(parquet)
    pq.write_table(table.set_column(1, "label", pa.array([0, 1, 2, 7])), parquet.with_name("test.parquet"))
    assert refused("parquet:images") == (
        "data.source=parquet:images: has test images of class 2, but no training images of it"
    )


@pytest.mark.parametrize(("emptied", "told"), [("train", "train"), ("test", "test")])
def test_a_class_whose_images_one_part_lacks_is_refused(folder: Path, emptied: str, told: str) -> None:
    for file in (folder / emptied / "dog").iterdir():
        file.unlink()
    assert refused("imagefolder:images") == f"data.source=imagefolder:images: {told} has no images of the class dog"


@pytest.mark.usefixtures("folder")
def test_home_is_known_in_the_folder_of_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    section = DataSection(source="imagefolder:~/images")
    assert section.source == f"imagefolder:{Path.cwd()}/images"
    assert len(load(section).pool) == 4


def test_of_many_classes_that_lack_one_is_named(folder: Path) -> None:
    for number in range(300):
        (folder / f"test/class{number:03}").mkdir()
        (folder / f"test/class{number:03}/0.png").write_bytes(png(0))
    assert refused("imagefolder:images") == (
        "data.source=imagefolder:images: train has no folder of the class class000"
    )
