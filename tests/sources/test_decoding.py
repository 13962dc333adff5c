"""Sets of image files of several kinds, through the source that a user names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.data import Dataset
from safs_ray.sources import load
from tests.sources.raw import png, tiff


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("images")


def loaded(folder: Path, train: Mapping[str, bytes], test: Mapping[str, bytes] | None = None, **keys: Any) -> Dataset:
    """Image files by their names, class/file; the test images are the training images unless others are given."""
    for part, files in (("train", train), ("test", test or train)):
        for name, content in files.items():
            path = folder / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return load(DataSection(source=f"imagefolder:{folder}", **keys))


def rows(dataset: Dataset, channel: int = 0) -> list[list[int]]:
    """The first row of each training image."""
    found: list[list[int]] = dataset.pool.inputs[:, channel, 0].tolist()
    return found


def square(row: list[int], kind: type = np.uint16) -> bytes:
    """A square image of equal rows."""
    return tiff(np.array([row] * len(row)).astype(kind))


class TestDepth:
    def test_12_bits_in_16_become_8_by_the_range_of_the_set(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        deep = {"a/0.png": png(np.array([[0, 4095], [0, 0]])), "b/0.png": png(np.array([[256, 2048], [0, 0]]))}
        found = loaded(folder, deep)
        assert rows(found) == [[0, 255], [16, 128]]
        assert found.test.inputs[:, 0, 0].tolist() == [[0, 255], [16, 128]]
        assert caplog.messages == [
            "data.source=imagefolder:images: 2 of 2 images hold integers of more than 8 bits, with pixels from 0 to "
            "4,095; 0 to 4,095 become 0 to 255"
        ]

    def test_12_bits_in_16_of_colour_are_scaled_too(self, folder: Path) -> None:
        colours = np.array([[[0, 1365, 2730], [4095, 0, 0]]] * 2)
        found = loaded(folder, {"a/0.png": png(colours, 16, 2), "b/0.png": png(colours // 2, 16, 2)})
        assert found.pool.inputs[0, :, 0, 0].tolist() == [0, 85, 170]
        assert found.pool.inputs[1, :, 0].tolist() == [[0, 127], [42, 0], [85, 0]]

    @pytest.mark.parametrize(
        ("row", "kind", "scaled"),
        [
            ([0, 1000], np.int32, [0, 249]),
            ([-50, 200], np.int16, [0, 255]),
            ([0.0, 0.5], np.float32, [0, 128]),
            ([-2.0, 2.0], np.float32, [0, 255]),
        ],
    )
    def test_tiffs_are_scaled_by_their_numbers(self, folder: Path, row: list[int], kind: type, scaled: Any) -> None:
        assert rows(loaded(folder, {"a/0.tif": square(row, kind), "b/0.tif": square(row, kind)})) == [scaled] * 2

    def test_a_gray_map_of_16_bits_is_not_clipped(self, folder: Path) -> None:
        pgm = b"P5 2 2 65535\n" + np.array([0, 65535, 32768, 255], ">u2").tobytes()
        assert loaded(folder, {"a/0.pgm": pgm, "b/0.pgm": pgm}).pool.inputs[0, 0].tolist() == [[0, 255], [128, 1]]

    def test_the_training_images_decide_for_the_test_images(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        train = {"a/0.tif": square([0, 1023]), "b/0.tif": square([0, 512])}
        test = {"a/0.tif": square([0, 4095]), "b/0.tif": square([100, 100])}
        found = loaded(folder, train, test)
        assert found.test.inputs[:, 0, 0].tolist() == [[0, 255], [25, 25]]
        assert caplog.messages[1] == (
            "warning: data.source=imagefolder:images: of 1 of 2 test images, pixels lie beyond those of the training "
            "images and are cut off; with pixels from 0 to 1,023; 0 to 1,023 become 0 to 255"
        )

    def test_images_of_8_bits_among_deeper_ones_stay_as_they_are(self, folder: Path) -> None:
        train = {
            "a/0.png": png(np.array([[7, 250]] * 2), 8),
            "a/1.tif": square([0, 4000]),
            "b/0.tif": square([0, 1], np.float32),
        }
        assert rows(loaded(folder, train)) == [[7, 250], [0, 249], [0, 255]]

    def test_gray_and_deep_images_among_coloured_ones_get_their_channels(self, folder: Path) -> None:
        colour = png(np.array([[[1, 2, 3]] * 2] * 2), 8, 2)
        found = loaded(
            folder, {"a/0.tif": square([0, 4095]), "b/0.png": png(np.array([[5, 6]] * 2), 8), "b/1.png": colour}
        )
        assert found.pool.inputs[:, :, 0].tolist() == [[[0, 255]] * 3, [[5, 6]] * 3, [[1, 1], [2, 2], [3, 3]]]

    def test_deep_images_are_resized_as_others(self, folder: Path) -> None:
        deep = np.kron(np.array([[0, 4000], [2000, 400]], np.uint16), np.ones((8, 8), np.uint16)).astype(np.uint16)
        found = loaded(folder, {"a/0.tif": tiff(deep), "b/0.tif": tiff(deep)}, size=8).pool.inputs[0, 0]
        assert found[[0, 0, 7, 7], [0, 7, 0, 7]].tolist() == [0, 249, 125, 25]

    def test_pixels_that_are_no_numbers_are_refused(self, folder: Path) -> None:
        broken = tiff(np.array([[0, np.nan]] * 2, np.float32))
        with pytest.raises(ConfigurationError, match=r"images/train/b/0\.tif is not an image \(it has pixels that are"):
            loaded(folder, {"a/0.tif": square([0, 1], np.float32), "b/0.tif": broken})

    def test_images_of_8_bits_alone_are_opened_once_and_nothing_is_said(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        opened: list[object] = []
        plain = Image.open
        monkeypatch.setattr(Image, "open", lambda file, **keys: opened.append(file) or plain(file, **keys))
        loaded(folder, {f"{name}/{number}.png": png(np.eye(2) * number, 8) for name in "ab" for number in range(3)})
        assert len(opened) == len(set(map(str, opened))) == 12
        assert caplog.messages == []


class TestAlpha:
    DRAWN = np.array([[[0, 0, 0, 255], [0, 0, 0, 0]]] * 2)
    """Black, which is drawn on nothing."""

    def test_drawings_that_live_in_the_alpha_channel_are_seen(self, folder: Path) -> None:
        other = self.DRAWN[:, ::-1]
        found = loaded(folder, {"a/0.png": png(self.DRAWN, 8, 6), "b/0.png": png(other, 8, 6)})
        assert found.pool.inputs.shape[1] == 3
        assert rows(found) == [[0, 255], [255, 0]]

    @pytest.mark.parametrize(("colour", "channels"), [(False, 2), (True, 4)])
    def test_where_it_is_kept_all_images_have_it(self, folder: Path, colour: bool, channels: int) -> None:
        gray = np.array([[[9, 255], [8, 0]]] * 2)
        files = {
            "a/0.png": png(gray, 8, 4),
            "a/1.png": png(np.array([[7, 6]] * 2), 8),
            "b/0.tif": square([0, 4095]),
        }
        if colour:
            files["b/1.png"] = png(self.DRAWN, 8, 6)
        found = loaded(folder, files, alpha="keep")
        assert found.pool.inputs.shape[1] == channels
        assert rows(found)[:3] == [[9, 8], [7, 6], [0, 255]]
        assert rows(found, channels - 1) == [[255, 0], [255, 255], [255, 255], [255, 0]][: len(files)]
        assert rows(found, channels - 2)[:3] == [[9, 8], [7, 6], [0, 255]]

    def test_training_and_test_images_get_the_same_channels(self, folder: Path) -> None:
        gray = {f"{name}/0.png": png(np.array([[[9, 255], [8, 0]]] * 2), 8, 4) for name in "ab"}
        colour = {f"{name}/0.png": png(self.DRAWN, 8, 6) for name in "ab"}
        found = loaded(folder, gray, colour, alpha="keep")
        assert found.pool.inputs[0, :, 0].tolist() == [[9, 8], [9, 8], [9, 8], [255, 0]]
        assert found.test.inputs[0, :, 0].tolist() == [[0, 0], [0, 0], [0, 0], [255, 0]]

    def test_what_is_transparent_does_not_colour_its_neighbours_when_it_is_resized(self, folder: Path) -> None:
        drawn = np.zeros((8, 8, 4), int)
        drawn[:, :4] = (200, 100, 0, 255)
        files = {f"{name}/0.png": png(drawn, 8, 6) for name in "ab"}
        kept = loaded(folder, files, alpha="keep", size=4).pool.inputs[0]
        assert kept[3, 0].tolist() == [255, 223, 32, 0]
        assert kept[:3, 0, 1].tolist() == [200, 100, 0]
        assert loaded(folder, files, size=4).pool.inputs[0, :, 0, 3].tolist() == [255] * 3

    @pytest.mark.parametrize("source", ["digits", "mine:images", "imagenet16:folder"])
    def test_it_is_for_image_files_alone(self, source: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            load(DataSection(source=source, alpha="keep"))
        assert str(refused.value) == "data.alpha=keep: is for image files, those of parquet and imagefolder, alone"
