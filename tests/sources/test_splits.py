"""Tables and folders as they lie on the Hugging Face hub and on the disks of people."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.data import Dataset
from safs_ray.sources import load
from safs_ray.sources.tables import Table

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})

METADATA = {
    b"huggingface": b'{"info": {"features": {"image": {"_type": "Image"}, '
    b'"label": {"names": ["cat", "dog", "emu"], "_type": "ClassLabel"}}}}'
}
"""As ``datasets`` 5.2.0 writes it into the schema of ``Dataset.to_parquet``, and the hub into what it converts."""


def image(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(name: str, levels: list[int], metadata: Mapping[bytes, bytes] | None = None, **labels: list[Any]) -> None:
    """A table of gray images of these levels, with labels 0 and 1 in turn unless others are given."""
    path = Path("images", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pa.array([{"bytes": image(level), "path": None} for level in levels], IMAGE)
    columns = labels or {"label": [index % 2 for index in range(len(levels))]}
    table = pa.table({"image": images, **{name: pa.array(values) for name, values in columns.items()}})
    pq.write_table(table.replace_schema_metadata(metadata), path)


def levels(dataset: Dataset) -> tuple[list[int], list[int]]:
    """Of the training and of the test images."""
    train, test = (part.inputs[:, 0, 0, 0].tolist() for part in (dataset.pool, dataset.test))
    return train, test


def loaded(**keys: Any) -> Dataset:
    return load(DataSection(source="parquet:images", **keys))


def refused(**keys: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(**keys)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (["train.parquet"], ["test.parquet"]),
        (["Train.parquet"], ["TEST.parquet"]),
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], ["test-00000-of-00001.parquet"]),
        (
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
            ["data/test-00000-of-00001.parquet"],
        ),
        (["data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"], ["data/test-00000-of-00001-5c3e8a0b4d1f2e67.parquet"]),
        (["plain_text/train-00000-of-00001.parquet"], ["plain_text/test-00000-of-00001.parquet"]),
        (["train/0000.parquet", "train/0001.parquet"], ["test/0000.parquet"]),
        (["default/train/0000.parquet", "default/train/0001.parquet"], ["default/test/0000.parquet"]),
        (["default/partial-train/0000.parquet"], ["default/partial-test/0000.parquet"]),
        ([f"train_{number}.parquet" for number in range(1, 12)], ["test_1.parquet"]),
        (["train_00000_of_00002.parquet", "train_00001_of_00002.parquet"], ["test_00000_of_00001.parquet"]),
        (["cats-train.parquet"], ["cats-test-v2.parquet"]),
        (["training/a.parquet"], ["evaluation/a.parquet"]),
    ],
)
def test_the_layouts_of_the_hub_are_found_with_all_shards_in_order(
    train: list[str], test: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate(train):
        write(name, [10 * number, 10 * number + 1])
    for number, name in enumerate(test):
        write(name, [200 + number, 100 + number])
    write("data/.cache/train-00000-of-00001.parquet", [9, 9])
    write(".hidden.parquet", [9, 9])
    Path("images/README.md").write_text("about it")
    found = loaded()
    assert levels(found) == (
        [level for number in range(len(train)) for level in (10 * number, 10 * number + 1)],
        [200, 100],
    )
    assert found.pool.labels.tolist() == [0, 1] * len(train)
    assert caplog.messages == []


def test_a_limit_reads_the_rows_of_its_sample_from_every_shard() -> None:
    for number in range(3):
        write(f"train-0000{number}-of-00003.parquet", list(range(10 * number, 10 * number + 10)))
    write("test.parquet", list(range(100, 120)))
    whole, sample = loaded(), loaded(limit=9)
    pairs = set(zip(levels(whole)[0], whole.pool.labels.tolist(), strict=True))
    drawn = list(zip(levels(sample)[0], sample.pool.labels.tolist(), strict=True))
    assert len(set(drawn)) == 9
    assert set(drawn) < pairs
    assert drawn == sorted(drawn)


def test_tables_of_no_split_and_of_two_are_named_and_not_used(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train.parquet", "test.parquet", "extra-00000-of-00001.parquet", "train/test/a.parquet"):
        write(name, [1, 2])
    write("val_and_test.parquet", [1, 2])
    assert levels(loaded()) == ([1, 2], [1, 2])
    assert caplog.messages == [
        "data.source=parquet:images: not used: extra-00000-of-00001.parquet (no split in its name), "
        "train/test/a.parquet (test and train in its name), val_and_test.parquet (test and val in its name)"
    ]


def test_tables_without_any_split_are_trained_on_and_partly_set_aside(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        write(f"{number:04}.parquet", list(range(10 * number, 10 * number + 10)))
    train, test = levels(loaded())
    assert sorted([*train, *test]) == list(range(20))
    assert (len(train), len(test)) == (16, 4)
    assert caplog.messages == [
        "data.source=parquet:images: all tables are of training images, for no name says a split",
        "data.source=parquet:images: there are no test images; one in 5 of the training images is set aside to test "
        "on, 4 images",
    ]


def test_validation_images_beside_test_images_are_named(caplog: pytest.LogCaptureFixture) -> None:
    for number, name in enumerate(("train", "validation", "test")):
        write(f"data/{name}-00000-of-00001.parquet", [number, number + 10])
    assert levels(loaded()) == ([0, 10], [2, 12])
    told = "not used: data/validation-00000-of-00001.parquet, for there are test images"
    assert caplog.messages == [f"data.source=parquet:images: {told}"]


@pytest.mark.parametrize("labels", [[-1, -1], pa.array([None, None], pa.int64())], ids=["-1", "null"])
def test_test_images_without_labels_are_named_and_validation_images_stand_in(
    labels: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As ImageNet's on the hub."""
    write("train.parquet", [1, 2])
    write("validation.parquet", [3, 4])
    write("test.parquet", [5, 6], label=labels)
    assert levels(loaded()) == ([1, 2], [3, 4])
    assert caplog.messages == [
        "data.source=parquet:images: not used: the test images, which have no labels",
        "data.source=parquet:images: tests on validation.parquet, for there are no test images",
    ]


def test_validation_images_without_labels_are_named_too_and_training_images_set_aside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    write("train.parquet", list(range(20)))
    for name in ("test", "validation"):
        write(f"{name}.parquet", [1, 2], label=[-1, -1])
    train, test = levels(loaded())
    assert (len(train), len(test)) == (16, 4)
    assert [message.partition(": ")[2] for message in caplog.messages[:2]] == [
        "not used: the test images, which have no labels",
        "not used: the validation images, which have no labels",
    ]


def test_an_empty_shard_adds_nothing() -> None:
    for number, rows in enumerate(([1, 2], [], [3, 4])):
        write(f"train-0000{number}-of-00003.parquet", rows)
    write("test.parquet", [5, 6])
    assert levels(loaded()) == ([1, 2, 3, 4], [5, 6])
    write("test.parquet", [])
    assert refused() == "data.source=parquet:images: needs at least two test images, has 0"


def test_tables_of_several_data_sets_are_refused() -> None:
    for home in ("cropped_digits", "full_numbers"):
        for name in ("train", "test"):
            write(f"{home}/{name}-00000-of-00001.parquet", [1, 2])
    assert refused() == (
        "data.source=parquet:images: holds tables of several data sets, in cropped_digits, full_numbers; name one of "
        "them, such as data.source=parquet:images/full_numbers"
    )
    one = load(DataSection(source="parquet:images/full_numbers"))
    assert levels(one) == ([1, 2], [1, 2])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("cats-{}.parquet", "dogs-{}.parquet"),
        ("{}.parquet", "{} (1).parquet"),
        ("{}.parquet", "{}_old.parquet"),
        ("{}.parquet", "{}ing.parquet"),
        ("{}_clean/0000.parquet", "{}_other/0000.parquet"),
    ],
)
def test_files_of_one_split_whose_names_differ_by_more_than_a_number_are_refused(name: str, other: str) -> None:
    for each in (name, other):
        for split in ("train", "test"):
            write(each.format(split), [1, 2])
    shown = ", ".join(sorted([name.format("test"), other.format("test")]))
    assert refused() == f"data.source=parquet:images: holds {shown} for one split; leave one set of files there"


def test_files_of_any_names_in_the_folder_of_a_split_are_joined_and_told(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train/monday.parquet", "train/tuesday.parquet", "test/part-0-5f2c.parquet"):
        write(name, [1, 2])
    assert levels(loaded()) == ([1, 2, 1, 2], [1, 2])
    assert caplog.messages[0] == "data.source=parquet:images: joined: train/monday.parquet, train/tuesday.parquet"


def test_folders_within_that_of_a_split_are_joined_and_told(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train/part=a/0.parquet", "train/part=b/0.parquet", "test/part=a/0.parquet"):
        write(name, [1, 2])
    assert levels(loaded()) == ([1, 2, 1, 2], [1, 2])
    assert caplog.messages[0].endswith("joined: train/part=a/0.parquet, train/part=b/0.parquet")


def test_numbers_far_apart_lack_none(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train_1700000000123.parquet", "train_1700086400456.parquet", "test_1.parquet"):
        write(name, [1, 2])
    loaded()
    assert "lacks" not in " ".join(caplog.messages)


def test_a_link_to_a_folder_beside_is_followed_and_one_back_is_not() -> None:
    write("train/0000.parquet", [1, 2])
    Path("images/train/again").symlink_to(Path("images/train").absolute())
    Path("images/val").symlink_to(Path("images/train").absolute())
    assert levels(loaded()) == ([1, 2], [1, 2])


def test_a_number_that_lacks_is_told(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train/0000.parquet", "train/0002.parquet", "test/0000.parquet"):
        write(name, [int(name[-9]), 1])
    loaded()
    told = "data.source=parquet:images: of the files such as train/0000.parquet lacks number 1"
    assert caplog.messages[0] == told


def test_a_shard_that_lacks_is_named() -> None:
    write("data/train-00000-of-00003.parquet", [1, 2])
    write("data/train-00002-of-00003.parquet", [1, 2])
    write("data/test-00000-of-00001.parquet", [1, 2])
    assert refused() == ("data.source=parquet:images: lacks data/train-00001-of-00003.parquet: 2 of 3 files are there")
    write("data/train-00001-of-00003.parquet", [1, 2])
    write("data/train-00003-of-00003.parquet", [1, 2])
    assert "holds more than the 3 files that data/train-00000-of-00003.parquet is one of" in refused()


@pytest.mark.parametrize("other", ["train.parquet", "train-00000-of-00002.parquet", "train-00000-of-00001-0a.parquet"])
def test_the_same_split_in_two_forms_is_refused(other: str) -> None:
    write("train-00000-of-00001.parquet", [1, 2])
    write(other, [1, 2])
    write("test.parquet", [1, 2])
    told = refused()
    assert told.startswith("data.source=parquet:images: holds ")
    assert other in told
    assert told.endswith(" for one split; leave one set of files there")


def test_a_file_in_place_of_the_folder_is_told() -> None:
    write("train.parquet", [1, 2])
    with pytest.raises(ConfigurationError) as caught:
        load(DataSection(source="parquet:images/train.parquet"))
    assert str(caught.value) == (
        "data.source=parquet:images/train.parquet: cannot look into images/train.parquet; it is a file: name the "
        "folder, images"
    )


def test_a_folder_without_tables_is_told() -> None:
    Path("images").mkdir()
    assert refused() == (
        "data.source=parquet:images: has no tables of training images, such as FOLDER/train.parquet, "
        "FOLDER/data/train-00000-of-00002.parquet or FOLDER/train/0000.parquet"
    )


def test_class_names_are_those_of_the_schema() -> None:
    write("train.parquet", [1, 2, 3], METADATA, label=[2, 0, 1])
    write("test.parquet", [1, 2], METADATA)
    found = loaded()
    assert found.names == ("cat", "dog", "emu")
    assert found.name_of(int(found.pool.labels[0])) == "emu"


@pytest.mark.parametrize(
    "damaged",
    [b"", b"[]", b"{}", b'{"info": 3}', b'{"info": {"features": {"label": {"names": 3, "_type": "ClassLabel"}}}}'],
)
def test_metadata_of_somebody_else_name_no_classes(damaged: bytes) -> None:
    for name in ("train", "test"):
        write(f"{name}.parquet", [1, 2], {b"huggingface": damaged})
    assert loaded().names == ()


def test_a_label_that_has_no_name_is_refused() -> None:
    write("train.parquet", [1, 2], METADATA, label=[0, 3])
    write("test.parquet", [1, 2], METADATA)
    assert refused() == "data.source=parquet:images: train.parquet has the label 3, and names 3 classes"


def test_other_names_in_the_test_tables_are_refused() -> None:
    other = {b"huggingface": METADATA[b"huggingface"].replace(b'"cat", "dog"', b'"dog", "cat"')}
    write("train.parquet", [1, 2], METADATA)
    write("test.parquet", [1, 2], other)
    assert refused() == "data.source=parquet:images: names other classes in its test tables: dog where train has cat"
    write("train-00000-of-00002.parquet", [1, 2], METADATA)
    write("train-00001-of-00002.parquet", [1, 2], other)
    Path("images/train.parquet").unlink()
    assert refused() == (
        "data.source=parquet:images: train-00001-of-00002.parquet names other classes than train-00000-of-00002.parquet"
    )


@pytest.mark.parametrize(
    ("columns", "key", "labels"),
    [
        (("coarse_label",), None, [1, 0]),
        (("fine_label", "coarse_label"), None, [1, 0]),
        (("fine_label", "coarse_label"), "coarse_label", [0, 1]),
        (("kind",), "kind", [1, 0]),
    ],
)
def test_labels_are_of_the_column_that_is_known_or_named(
    columns: tuple[str, ...], key: str | None, labels: list[int]
) -> None:
    values = {column: [1, 0] if number == 0 else [0, 1] for number, column in enumerate(columns)}
    for name in ("train", "test"):
        write(f"{name}.parquet", [1, 2], **values)
    assert loaded(label_column=key).pool.labels.tolist() == labels


def test_images_are_of_any_column_that_is_named() -> None:
    for name in ("train", "test"):
        write(f"{name}.parquet", [1, 2], label=[0, 1], photograph=[{"bytes": image(7)}, {"bytes": image(8)}])
    assert levels(loaded(image_column="photograph")) == ([7, 8], [7, 8])
    assert levels(loaded()) == ([1, 2], [1, 2])


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("image_column", "tables of images, parquet:FOLDER, alone"),
        ("label_column", "tables, those of parquet:FOLDER and table:FOLDER, alone"),
    ],
)
def test_a_column_that_is_not_there_and_one_of_another_source_are_refused(key: str, where: str) -> None:
    write("train.parquet", [1, 2])
    assert refused(**{key: "photograph"}) == f"data.{key}=photograph: train.parquet has the columns image, label"
    with pytest.raises(ConfigurationError) as caught:
        load(DataSection(source="digits", **{key: "photograph"}))
    assert str(caught.value) == f"data.{key}=photograph: is for {where}"


def test_a_path_without_bytes_is_named_by_file_and_row() -> None:
    """As ``to_parquet`` of an image folder writes it: ``datasets`` 5.2.0 keeps the paths alone."""
    write("data/train-00000-of-00001.parquet", [1, 2], METADATA)
    images = pa.array([{"bytes": image(1), "path": "0.png"}, {"bytes": None, "path": "/data/cat/1.png"}], IMAGE)
    table = pa.table({"image": images, "label": [0, 1]}).replace_schema_metadata(METADATA)
    pq.write_table(table, "images/data/test-00000-of-00001.parquet")
    assert refused() == (
        "data.source=parquet:images: data/test-00000-of-00001.parquet has no bytes in row 1, but the path "
        "/data/cat/1.png; embed the files before you write the table: "
        "dataset.with_format('arrow').map(datasets.table.embed_table_storage, batched=True)"
    )


def test_labels_of_several_tables_are_joined_in_their_integer_types() -> None:
    write("train-00000-of-00002.parquet", [1, 2], label=pa.array([0, 1], pa.int8()))
    write("train-00001-of-00002.parquet", [3, 4], label=pa.array([300, 2], pa.int64()))
    write("test.parquet", [1, 2])
    assert torch.equal(loaded().pool.labels, torch.tensor([0, 1, 300, 2]))


def test_a_row_group_larger_than_what_is_read_at_a_time_is_not_held_in_memory() -> None:
    """``to_parquet`` of ``datasets`` 5.2.0 writes few images, those of a whole shard, as one row group."""
    draws = np.random.default_rng(0)
    images = pa.array([{"bytes": image(1) + draws.bytes(10_000), "path": None} for _ in range(5000)], IMAGE)
    Path("images").mkdir()
    pq.write_table(pa.table({"image": images, "label": [0, 1] * 2500}), "images/train.parquet", row_group_size=5000)
    del images
    table = Table(Path("images/train.parquet"), "train.parquet", "parquet:images", None, None)
    before = pa.total_allocated_bytes()
    held = max(pa.total_allocated_bytes() - before for _ in table.images(np.arange(0, 5000, 100)))
    assert held < 35_000_000, "of 50 MB"
