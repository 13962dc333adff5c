"""Images that are decoded into files once: the same as in memory, shared, reused, and made again where they lack."""

from __future__ import annotations

import io
import logging
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.data import Dataset, Examples
from safs_ray.mapped import MappedRows
from safs_ray.sources import load

MODES = {"gray": (), "colour": (3,), "alpha": (4,)}


def png(seed: int, *channels: int, kind: type[np.generic] = np.uint8) -> bytes:
    file, draws = io.BytesIO(), np.random.default_rng(seed)
    Image.fromarray(draws.integers(0, np.iinfo(kind).max, (6, 6, *channels), dtype=kind)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(train: list[bytes], test: list[bytes]) -> None:
    """The source parquet:images."""
    Path("images").mkdir(exist_ok=True)
    for name, images in (("train", train), ("test", test)):
        table = {"image": [{"bytes": image} for image in images], "label": [row % 2 for row in range(len(images))]}
        pq.write_table(pa.table(table), f"images/{name}.parquet")


def loaded(memory: str, **keys: Any) -> Dataset:
    return load(DataSection(source="parquet:images", memory=memory, **keys), Path("runs/.images"))


def refused(**keys: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded("map", **keys)
    return str(caught.value)


def assert_equal(mapped: Examples, held: Examples) -> None:
    assert isinstance(mapped.inputs, MappedRows)
    assert torch.equal(mapped.inputs, held.inputs)
    assert torch.equal(mapped.labels, held.labels)


@pytest.mark.parametrize(
    ("train", "test", "keys"),
    [
        ([png(0), png(1)], [png(2), png(3)], {}),
        ([png(0, 3), png(1, 3)], [png(2), png(3)], {}),
        ([png(0), png(1, 3), png(2)], [png(3), png(4)], {"size": 9}),
        ([png(0), png(1, 4), png(2)], [png(3), png(4, 3)], {"alpha": "keep"}),
        ([png(seed) for seed in range(9)], [png(3), png(4)], {"limit": 4}),
        ([png(0, kind=np.uint16), png(1), png(2, kind=np.uint16)], [png(3, kind=np.uint16), png(4)], {}),
    ],
    ids=["gray", "gray test", "later colour", "alpha", "sample", "16 bits"],
)
def test_mapped_images_are_those_of_memory(train: list[bytes], test: list[bytes], keys: dict[str, Any]) -> None:
    write(train, test)
    mapped, held = loaded("map", **keys), loaded("hold", **keys)
    assert_equal(mapped.pool, held.pool)
    assert_equal(mapped.test, held.test)
    assert mapped.pool.statistics() == held.pool.statistics()
    assert (mapped.outputs, mapped.pool.inputs.shape) == (held.outputs, held.pool.inputs.shape)
    assert sorted(file.name for file in Path("runs/.images").glob("[!.]*/*")) == ["test.npy", "train.npy"]


def test_a_folder_of_images_is_mapped() -> None:
    for part in ("train", "test"):
        for number, kind in enumerate(("cat", "dog")):
            for seed in range(3):
                path = Path("images", part, kind, f"{seed}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(10 * number + seed, 3))
    section = DataSection(source="imagefolder:images")
    held, mapped = (load(section.model_copy(update={"memory": memory}), Path("runs")) for memory in ("hold", "map"))
    assert_equal(mapped.pool, held.pool)
    assert mapped.names == ("cat", "dog")


def test_what_was_decoded_is_used_again_until_the_source_changes(caplog: pytest.LogCaptureFixture) -> None:
    write([png(0), png(1)], [png(2), png(3)])
    first, again = loaded("map"), loaded("map")
    assert_equal(again.pool, Examples(first.pool.inputs + 0, first.pool.labels))
    [key] = [entry.name for entry in Path("runs/.images").iterdir() if not entry.name.startswith(".")]
    told = f"data.source=parquet:images: decoding 4 images into runs/.images/{key}"
    assert caplog.messages == [told]
    assert sorted(entry.name for entry in Path("runs/.images", key).iterdir()) == ["test.npy", "train.npy"]
    write([png(7), png(1)], [png(2), png(3)])
    assert_equal(loaded("map").pool, loaded("hold").pool)
    assert len(caplog.messages) == 2
    loaded("map", size=8)
    assert len(caplog.messages) == 3


def test_mapped_images_that_are_damaged_are_decoded_again(caplog: pytest.LogCaptureFixture) -> None:
    write([png(0), png(1)], [png(2), png(3)])
    loaded("map")
    [file] = Path("runs/.images").glob("*/train.npy")
    fewer = io.BytesIO()
    np.save(fewer, np.load(file)[:1])
    for damaged in (file.read_bytes()[:-1], b"", None, fewer.getvalue()):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        assert_equal(loaded("map").pool, loaded("hold").pool)
    shutil.rmtree(file.parent)
    file.parent.write_text("a file in place of the folder")
    assert_equal(loaded("map").pool, loaded("hold").pool)
    assert len(caplog.messages) == 6


def test_what_a_killed_process_has_begun_is_replaced() -> None:
    write([png(0), png(1)], [png(2), png(3)])
    loaded("map")
    [place] = Path("runs/.images").glob("[!.]*")
    place.rename(place.with_name(f".{place.name}.partial"))
    (place.with_name(f".{place.name}.partial") / "test.npy").write_bytes(b"")
    assert_equal(loaded("map").test, loaded("hold").test)
    assert [entry.name for entry in Path("runs/.images").iterdir() if entry.suffix != ".lock"] == [place.name]


def test_an_image_that_cannot_be_read_leaves_no_file_behind() -> None:
    write([png(0), png(1)], [png(2), png(3)[:60]])
    assert "test.parquet row 1 is not an image" in refused()
    assert [entry for entry in Path("runs/.images").iterdir() if not entry.name.endswith(".lock")] == []


def test_mapped_images_need_no_memory_and_room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    write([png(0, 3)] * 60, [png(1, 3)] * 60)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5000))
        assert refused() == (
            "data.memory=map: 60 images of 3x6x6 of parquet:images take 0.0 MB in runs/.images, where 0.0 MB are free; "
            "data.size=PIXELS makes them smaller, data.limit=COUNT takes fewer"
        )
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=15_000))
    assert len(loaded("map").pool) == 60
    with pytest.raises(
        ConfigurationError, match=r"data\.limit=COUNT takes fewer, data\.memory=map keeps them in a file"
    ):
        loaded("hold")


def test_a_disk_that_is_read_only_or_full_is_told() -> None:
    write([png(0), png(1)], [png(2), png(3)])
    Path("runs").write_text("no folder")
    assert refused().startswith("data.memory=map: runs/.images cannot hold decoded images (")


def test_another_machine_decodes_the_images_itself_and_no_others() -> None:
    write([png(0), png(1)], [png(2), png(3)])
    dataset, held = loaded("map"), loaded("hold")
    pickled = pickle.dumps(dataset.pool.inputs[torch.tensor([1, 0])])
    shutil.rmtree("runs")
    assert torch.equal(pickle.loads(pickled), held.pool.inputs[[1, 0]])
    shutil.rmtree("runs")
    write([png(0), png(1), png(4)], [png(2), png(3)])
    with pytest.raises(ConfigurationError, match=r"holds other images on .* than where the run was started"):
        pickle.loads(pickled)


def test_of_processes_that_want_the_same_images_one_decodes_them(caplog: pytest.LogCaptureFixture) -> None:
    write([png(seed, 3) for seed in range(300)], [png(1, 3)] * 2)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: loaded("map"), range(4)))
    assert all(torch.equal(each.pool.inputs, found[0].pool.inputs) for each in found)
    assert len([message for message in caplog.messages if "decoding" in message]) == 1


def test_a_class_of_one_image_over_and_over_is_named_of_mapped_images_too(caplog: pytest.LogCaptureFixture) -> None:
    write([png(row % 2 * (row + 1), 3) for row in range(8)], [png(2), png(3)])
    with caplog.at_level(logging.WARNING):
        loaded("map")
    assert "4 of the 4 training images of class 0 are the same, pixel for pixel" in caplog.messages[-1]


@pytest.mark.parametrize("source", ["digits", "mine:images"])
def test_what_is_in_memory_anyway_is_not_mapped(source: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(DataSection(source=source, memory="map"), Path("runs"))
    told = "is for image files, those of parquet and imagefolder, alone"
    assert str(caught.value) == f"data.memory=map: {told}"
