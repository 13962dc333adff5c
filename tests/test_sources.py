from __future__ import annotations

import hashlib
import io
import pickle
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, CIFAR100

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.data import Dataset, Examples
from safs_ray.sources import load
from safs_ray.sources.named import TORCHVISION, downloaded

Pixels = npt.NDArray[np.uint8]


def pixels(count: int, *shape: int, seed: int = 0) -> list[Pixels]:
    """Random images: (height, width) is gray, (height, width, 3) in colour."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


def encoded(image: Pixels | Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind)
    return file.getvalue()


def write_parquet(path: Path, images: Sequence[bytes | None], labels: Sequence[Any], column: str = "image") -> None:
    """A file as the Hugging Face hub has it."""
    rows = [None if image is None else {"bytes": image, "path": None} for image in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({column: rows, "label": labels}), path)


def write_parquets(folder: Path, train: Sequence[Pixels], test: Sequence[Pixels], column: str = "image") -> None:
    for name, images in (("train", train), ("test", test)):
        labels = [index % 2 for index in range(len(images))]
        write_parquet(folder / f"{name}.parquet", [encoded(image) for image in images], labels, column)


def write_folder(folder: Path, images: dict[str, bytes]) -> None:
    for name, content in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def load_from(source: str, **keys: Any) -> Dataset:
    return load(DataSection(source=source, **keys))


def message(source: str, **keys: Any) -> str:
    """The message with which a source is refused; one line."""
    with pytest.raises(ConfigurationError) as refused:
        load_from(source, **keys)
    text = str(refused.value)
    assert text == " ".join(text.splitlines())
    return text


def assert_holds(examples: Examples, images: Sequence[Pixels], labels: Sequence[int]) -> None:
    """The examples are these images, (height, width) or (height, width, channels), in this order."""
    stacked = np.stack([image[None] if image.ndim == 2 else image.transpose(2, 0, 1) for image in images])
    assert examples.inputs.dtype == torch.uint8
    assert examples.inputs.is_contiguous()
    assert np.array_equal(examples.inputs.numpy(), stacked)
    assert examples.labels.dtype == torch.int64
    assert examples.labels.tolist() == list(labels)


class TestDigits:
    def test_are_1437_and_360_images_of_28x28(self) -> None:
        digits = load(DataSection())
        assert digits.pool.inputs.shape == (1437, 1, 28, 28)
        assert digits.test.inputs.shape == (360, 1, 28, 28)
        assert digits.pool.inputs.dtype == digits.test.inputs.dtype == torch.uint8
        assert digits.pool.labels.dtype == torch.int64
        assert (digits.outputs, digits.shape) == (10, (1, 28, 28))
        assert digits.pool.inputs.max() > 250
        assert digits.pool.inputs.min() == 0

    def test_at_their_own_size_are_all_of_scikit_learns_images(self) -> None:
        digits = load_from("digits", size=8)
        source = load_digits()
        mine = torch.cat([digits.pool.inputs, digits.test.inputs]).flatten(1).double() / 255 * 16
        labels = torch.cat([digits.pool.labels, digits.test.labels])
        found = sorted((label, *image) for label, image in zip(labels.tolist(), mine.round().tolist(), strict=True))
        assert found == sorted(
            (float(label), *image) for label, image in zip(source.target, source.data.tolist(), strict=True)
        )

    def test_every_class_is_in_the_test_images_by_its_share(self) -> None:
        digits = load_from("digits", size=8)
        share = torch.bincount(digits.test.labels) / torch.bincount(torch.cat([digits.pool.labels, digits.test.labels]))
        assert share.tolist() == pytest.approx([0.2] * 10, abs=0.006)

    def test_are_the_same_every_time(self) -> None:
        first, second = (load_from("digits", size=8) for _ in range(2))
        assert torch.equal(first.pool.inputs, second.pool.inputs)
        assert torch.equal(first.test.labels, second.test.labels)

    def test_a_limit_takes_a_sample_of_both_parts(self) -> None:
        limited, whole = load_from("digits", size=8, limit=7), load_from("digits", size=8)
        assert len(limited.pool) == len(limited.test) == 7
        for part, source in ((limited.pool, whole.pool), (limited.test, whole.test)):
            for image, label in zip(part.inputs, part.labels, strict=True):
                same = (source.inputs == image).flatten(1).all(1)
                assert source.labels[same].tolist() == [label]
        assert limited.outputs == 10

    def test_a_limit_beyond_the_images_takes_all(self) -> None:
        assert len(load_from("digits", size=8, limit=1500).pool) == 1437


class TestParquet:
    @pytest.mark.parametrize("column", ["image", "img"])
    @pytest.mark.parametrize("shape", [(5, 5), (5, 5, 3)], ids=["gray", "colour"])
    def test_pixels_and_labels_are_as_written(self, tmp_path: Path, column: str, shape: tuple[int, ...]) -> None:
        train, test = pixels(4, *shape), pixels(3, *shape, seed=1)
        write_parquets(tmp_path, train, test, column)
        loaded = load_from(f"parquet:{tmp_path}")
        assert_holds(loaded.pool, train, [0, 1, 0, 1])
        assert_holds(loaded.test, test, [0, 1, 0])
        assert (loaded.outputs, loaded.shape) == (2, (3 if len(shape) == 3 else 1, 5, 5))

    @pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
    def test_images_may_be_plain_bytes(self, tmp_path: Path, kind: pa.DataType) -> None:
        images = pixels(2, 5, 5)
        table = pa.table({"image": pa.array([encoded(image) for image in images], kind), "label": [3, 0]})
        for name in ("train", "test"):
            pq.write_table(table, tmp_path / f"{name}.parquet")
        loaded = load_from(f"parquet:{tmp_path}")
        assert_holds(loaded.pool, images, [3, 0])
        assert loaded.outputs == 4

    def test_gray_training_images_get_the_channels_of_coloured_test_images(self, tmp_path: Path) -> None:
        gray, colour = pixels(3, 5, 5), pixels(2, 5, 5, 3)
        write_parquets(tmp_path / "a", gray, colour)
        write_parquets(tmp_path / "b", colour, gray)
        repeated = [np.stack([image] * 3, axis=2) for image in gray]
        first, second = load_from(f"parquet:{tmp_path / 'a'}"), load_from(f"parquet:{tmp_path / 'b'}")
        assert first.pool.inputs.shape[1] == second.pool.inputs.shape[1] == 3
        assert_holds(first.pool, repeated, [0, 1, 0])
        assert_holds(first.test, colour, [0, 1])
        assert_holds(second.pool, colour, [0, 1])
        assert_holds(second.test, repeated, [0, 1, 0])

    def test_gray_images_among_coloured_ones_get_three_channels(self, tmp_path: Path) -> None:
        gray, colour = pixels(1, 5, 5)[0], pixels(1, 5, 5, 3)[0]
        write_parquets(tmp_path, [gray, colour], [gray, colour])
        assert_holds(load_from(f"parquet:{tmp_path}").pool, [np.stack([gray] * 3, axis=2), colour], [0, 1])

    def test_transparent_pixels_are_white_unless_alpha_is_kept(self, tmp_path: Path) -> None:
        images = pixels(2, 5, 5, 4)
        write_parquets(tmp_path, images, images)
        colours, alpha = (np.stack(images)[..., part].astype(int) for part in (slice(3), slice(3, None)))
        on_white = np.rint((colours * alpha + 255 * (255 - alpha)) / 255).astype(np.uint8)
        assert_holds(load_from(f"parquet:{tmp_path}").pool, list(on_white), [0, 1])
        assert_holds(load_from(f"parquet:{tmp_path}", alpha="keep").pool, images, [0, 1])

    def test_16_bit_gray_is_scaled_to_8_bits(self, tmp_path: Path) -> None:
        levels = np.linspace(0, 65_535, 25).reshape(5, 5).astype(np.uint16)
        for name in ("train", "test"):
            write_parquet(tmp_path / f"{name}.parquet", [encoded(Image.fromarray(levels))] * 2, [0, 1])
        found = load_from(f"parquet:{tmp_path}").pool.inputs[0, 0].numpy()
        assert np.abs(found - levels / 257).max() <= 1

    def test_a_size_resizes_images_of_any_shape(self, tmp_path: Path) -> None:
        images = [np.full((4, 6), 200, np.uint8), np.full((9, 3), 7, np.uint8)]
        write_parquets(tmp_path, images, images)
        loaded = load_from(f"parquet:{tmp_path}", size=8)
        assert_holds(loaded.pool, [np.full((8, 8), level, np.uint8) for level in (200, 7)], [0, 1])

    def test_halving_the_size_averages_pixels(self, tmp_path: Path) -> None:
        image = np.kron(np.array([[0, 100], [200, 40]], np.uint8), np.ones((8, 8), np.uint8)).astype(np.uint8)
        write_parquets(tmp_path, [image] * 2, [image] * 2)
        small = load_from(f"parquet:{tmp_path}", size=8).pool.inputs[0, 0]
        assert small[[0, 0, 7, 7], [0, 7, 0, 7]].tolist() == [0, 100, 200, 40]
        assert float(small.double().mean()) == pytest.approx(float(image.mean()), abs=1)


class TestParquetErrors:
    def write(self, folder: Path, images: Sequence[bytes | None], labels: Sequence[Any]) -> str:
        """A source whose training images are these and whose test images are two gray ones of 5x5."""
        write_parquet(folder / "train.parquet", images, labels)
        write_parquet(folder / "test.parquet", [encoded(image) for image in pixels(2, 5, 5)], [0, 1])
        return f"parquet:{folder}"

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder with a name short enough for a message."""
        monkeypatch.chdir(tmp_path)
        return Path("images")

    def test_a_missing_folder_is_told(self, folder: Path) -> None:
        assert message(f"parquet:{folder}") == "data.source=parquet:images: there is no folder images"

    def test_a_missing_file_is_told(self, folder: Path) -> None:
        source = self.write(folder, [encoded(image) for image in pixels(2, 5, 5)], [0, 1])
        (folder / "train.parquet").unlink()
        assert message(source) == (
            "data.source=parquet:images: has no tables of training images, such as FOLDER/train.parquet, "
            "FOLDER/data/train-00000-of-00002.parquet or FOLDER/train/0000.parquet; it holds test.parquet"
        )

    @pytest.mark.parametrize("content", [b"", b"no parquet at all", b"PAR1" + bytes(50) + b"PAR1"])
    def test_a_file_that_is_no_parquet_is_told(self, folder: Path, content: bytes) -> None:
        source = self.write(folder, [encoded(image) for image in pixels(2, 5, 5)], [0, 1])
        (folder / "train.parquet").write_bytes(content)
        assert message(source).startswith("data.source=parquet:images: train.parquet cannot be read (")

    def test_a_truncated_file_is_told(self, folder: Path) -> None:
        source = self.write(folder, [encoded(image) for image in pixels(2, 5, 5)], [0, 1])
        whole = (folder / "test.parquet").read_bytes()
        (folder / "test.parquet").write_bytes(whole[:-30])
        assert message(source).startswith("data.source=parquet:images: test.parquet cannot be read (")

    @pytest.mark.parametrize(
        ("names", "told"),
        [
            (("picture", "label"), "image (or img); it has picture, label; data.image_column=NAME takes another"),
            (
                ("image", "class"),
                "label (or labels, fine_label, coarse_label); it has image, class; data.label_column=NAME takes "
                "another",
            ),
        ],
    )
    def test_other_columns_are_told(self, folder: Path, names: tuple[str, str], told: str) -> None:
        folder.mkdir()
        images = [{"bytes": encoded(image)} for image in pixels(2, 5, 5)]
        pq.write_table(pa.table(dict(zip(names, (images, [0, 1]), strict=True))), folder / "train.parquet")
        assert message(f"parquet:{folder}") == f"data.source=parquet:images: train.parquet needs the column {told}"

    @pytest.mark.parametrize(
        ("labels", "told"),
        [
            ([0, None], "row 1 has none"),
            ([None, None], "row 0 has none"),
            (["a", "b"], "they are of type string"),
            ([0.0, 1.0], "they are of type double"),
            ([True, False], "they are of type bool"),
        ],
    )
    def test_labels_that_are_not_integers_are_told(self, folder: Path, labels: list[Any], told: str) -> None:
        source = self.write(folder, [encoded(image) for image in pixels(2, 5, 5)], labels)
        assert message(source) == (
            f"data.source=parquet:images: train.parquet needs label as integers in every row; {told}"
        )

    def test_a_negative_label_is_told(self, folder: Path) -> None:
        source = self.write(folder, [encoded(image) for image in pixels(2, 5, 5)], [0, -1])
        text = message(source)
        assert text.startswith("data.source")
        assert text.endswith("found -1")

    def test_a_single_class_is_told(self, folder: Path) -> None:
        source = self.write(folder, [encoded(image) for image in pixels(2, 5, 5)], [3, 3])
        (folder / "test.parquet").write_bytes((folder / "train.parquet").read_bytes())
        assert (
            message(source) == "data.source=parquet:images: needs images of at least two classes, has those of class 3"
        )

    def test_a_row_without_image_is_told(self, folder: Path) -> None:
        text = message(self.write(folder, [encoded(pixels(1, 5, 5)[0]), None], [0, 1]))
        assert text == (
            "data.source=parquet:images: train.parquet needs image as a struct with bytes in every row; row 1 has none"
        )

    def test_images_that_are_not_bytes_are_told(self, folder: Path) -> None:
        folder.mkdir()
        pq.write_table(pa.table({"img": [1.0, 2.0], "label": [0, 1]}), folder / "train.parquet")
        assert message(f"parquet:{folder}") == (
            "data.source=parquet:images: train.parquet needs img as a struct with bytes in every row"
        )

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no image",
            encoded(pixels(1, 40, 40)[0])[:-300],
            encoded(pixels(1, 40, 40)[0])[:60],
            encoded(pixels(1, 40, 40)[0]).replace(b"IDAT", b"IDOT"),
            encoded(pixels(1, 40, 40, 3)[0], "JPEG")[:200],
            encoded(pixels(1, 40, 40)[0], "GIF")[:100],
            encoded(pixels(1, 40, 40, 3)[0], "TIFF")[:300],
            b"DDS " + struct.pack("<I", 124) + bytes(4) + struct.pack("<II", 5, 5) + bytes(108),
        ],
        ids=["empty", "text", "cut png", "png header", "png chunk", "cut jpeg", "cut gif", "cut tiff", "dds"],
    )
    def test_a_broken_image_is_told(self, folder: Path, content: bytes) -> None:
        text = message(self.write(folder, [encoded(pixels(1, 40, 40)[0]), content], [0, 1]))
        assert text.startswith("data.source=parquet:images: train.parquet row 1 is not an image (")

    def test_images_of_several_sizes_are_told_with_the_way_out(self, folder: Path) -> None:
        images = [encoded(pixels(1, 5, 5)[0]), encoded(pixels(1, 6, 6)[0])]
        assert message(self.write(folder, images, [0, 1])) == (
            "data.source=parquet:images: train.parquet row 1 has (6, 6) pixels and the first image (5, 5); "
            "data.size=PIXELS resizes all"
        )

    @pytest.mark.parametrize("shape", [(6, 6), (5, 6), (6, 5)])
    def test_training_and_test_images_of_two_shapes_are_told_with_the_way_out(
        self, folder: Path, shape: tuple[int, int]
    ) -> None:
        text = message(self.write(folder, [encoded(image) for image in pixels(2, *shape)], [0, 1]))
        assert text.startswith("data.size: ")
        assert f"(1, {shape[0]}, {shape[1]}) and (1, 5, 5)" in text
        assert text.endswith("data.size=PIXELS or data.size=HEIGHTxWIDTH resizes all")

    def test_images_need_not_be_square(self, folder: Path) -> None:
        write_parquets(folder, pixels(2, 5, 6), pixels(2, 5, 6))
        assert load_from(f"parquet:{folder}").pool.inputs.shape == (2, 1, 5, 6)

    def test_one_image_is_not_enough(self, folder: Path) -> None:
        text = message(self.write(folder, [encoded(pixels(1, 5, 5)[0])], [0]))
        assert text == "data.source=parquet:images: needs at least two training images, has 1"

    def test_an_empty_table_is_told(self, folder: Path) -> None:
        source = self.write(folder, [encoded(image) for image in pixels(2, 5, 5)], [0, 1])
        empty = pq.read_table(folder / "train.parquet")[:0]
        pq.write_table(empty, folder / "train.parquet")
        assert message(source).startswith("data.source=parquet:images: ")


class TestImageFolder:
    def write(self, folder: Path, shape: tuple[int, ...] = (5, 5)) -> list[Pixels]:
        """Three training and two test images of the classes cat and dog."""
        images = pixels(5, *shape)
        names = ("train/cat/b.png", "train/cat/c.png", "train/dog/a.png", "test/cat/x.png", "test/dog/y.png")
        write_folder(folder, dict(zip(names, map(encoded, images), strict=True)))
        return images

    @pytest.mark.parametrize("shape", [(5, 5), (5, 5, 3)], ids=["gray", "colour"])
    def test_classes_are_folders_in_order_of_their_names(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        images = self.write(tmp_path, shape)
        loaded = load_from(f"imagefolder:{tmp_path}")
        assert_holds(loaded.pool, images[:3], [0, 0, 1])
        assert_holds(loaded.test, images[3:], [0, 1])
        assert loaded.outputs == 2

    def test_images_are_resized_with_pillows_bilinear_filter(self, tmp_path: Path) -> None:
        images = self.write(tmp_path)
        resized = [np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR)) for image in images]
        loaded = load_from(f"imagefolder:{tmp_path}", size=8)
        assert_holds(loaded.pool, resized[:3], [0, 0, 1])
        assert_holds(loaded.test, resized[3:], [0, 1])

    def test_a_limit_takes_a_sample_of_all_classes_and_opens_no_other_file(self, tmp_path: Path) -> None:
        for part in ("train", "test"):
            for kind in range(4):
                shade = encoded(np.full((5, 5), kind, np.uint8))
                write_folder(tmp_path, {f"{part}/{kind}/{index:02d}.png": shade for index in range(25)})
        loaded = load_from(f"imagefolder:{tmp_path}", limit=30)
        assert set(loaded.pool.labels.tolist()) == {0, 1, 2, 3}
        assert loaded.pool.inputs[:, 0, 0, 0].tolist() == loaded.pool.labels.tolist()
        left_out = 0
        for path in sorted((tmp_path / "train").glob("*/*.png")):
            whole = path.read_bytes()
            path.write_bytes(b"no image")
            try:
                load_from(f"imagefolder:{tmp_path}", limit=30)
                left_out += 1
            except ConfigurationError:
                path.write_bytes(whole)
        assert left_out == 70

    def test_a_missing_part_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        self.write(tmp_path / "images")
        (tmp_path / "images/train").rename(tmp_path / "elsewhere")
        assert message("imagefolder:images") == "data.source=imagefolder:images: there is no folder images/train"

    def test_a_file_in_place_of_a_folder_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("images").write_text("no folder")
        assert message("imagefolder:images").startswith("data.source=imagefolder:images: ")

    def test_a_class_without_images_is_left_out_and_told(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        images = self.write(tmp_path)
        for part in ("train", "test"):
            (tmp_path / part / "ape").mkdir()
        loaded = load_from(f"imagefolder:{tmp_path}")
        assert_holds(loaded.pool, images[:3], [0, 0, 1])
        assert loaded.outputs == 2
        assert caplog.messages == [
            f"data.source=imagefolder:{tmp_path}: skipped train/ape without images, test/ape without images"
        ]

    def test_images_without_class_folders_are_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_folder(Path("images"), {"train/a.png": encoded(pixels(1, 5, 5)[0])})
        text = message("imagefolder:images")
        assert text.startswith("data.source=imagefolder:images: ")
        assert "class folder" in text

    def test_different_classes_in_the_parts_are_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        self.write(Path("images"))
        write_folder(Path("images"), {"test/fish/z.png": encoded(pixels(1, 5, 5)[0])})
        assert message("imagefolder:images") == (
            "data.source=imagefolder:images: train has no folder of the class fish"
        )
        Path("images/test/fish/z.png").unlink()
        Path("images/test/fish").rmdir()
        write_folder(Path("images"), {"train/eel/z.png": encoded(pixels(1, 5, 5)[0])})
        assert message("imagefolder:images") == "data.source=imagefolder:images: test has no folder of the class eel"

    def test_a_broken_image_is_told_with_its_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        self.write(Path("images"))
        write_folder(Path("images"), {"test/dog/z.png": b"no image"})
        text = message("imagefolder:images")
        assert text.startswith("data.source=imagefolder:images: images/test/dog/z.png is not an image (")

    def test_images_of_several_sizes_are_told_with_the_way_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        self.write(Path("images"))
        write_folder(Path("images"), {"train/dog/z.png": encoded(pixels(1, 6, 5)[0])})
        assert message("imagefolder:images") == (
            "data.source=imagefolder:images: images/train/dog/z.png has (5, 6) pixels and the first image (5, 5); "
            "data.size=PIXELS resizes all"
        )


class TestDownloads:
    @pytest.fixture(autouse=True)
    def _no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> NoReturn:
            raise OSError("there is no network")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)

    @staticmethod
    def write_mnist(folder: Path, kind: str = "MNIST") -> tuple[list[Pixels], list[Pixels]]:
        """MNIST's four files with three training and two test images; returns the images."""
        parts = pixels(3, 28, 28), pixels(2, 28, 28, seed=1)
        raw = folder / kind / "raw"
        raw.mkdir(parents=True)
        for prefix, images in zip(("train", "t10k"), parts, strict=True):
            count = struct.pack(">I", len(images))
            (raw / f"{prefix}-images-idx3-ubyte").write_bytes(
                b"\0\0\x08\x03" + count + struct.pack(">II", 28, 28) + np.stack(images).tobytes()
            )
            (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + count + bytes([9, 0, 7][: len(images)]))
        return parts

    @pytest.mark.parametrize("name", TORCHVISION)
    def test_a_data_set_that_cannot_be_downloaded_is_told_with_ways_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        text = message(name, folder="empty")
        assert text.startswith(f"data.folder=empty: holds no complete {name} and it cannot be downloaded (")
        assert "there is no network" in text
        assert "put torchvision's files of it there" in text
        assert text.endswith("or use data.source=digits")

    @pytest.mark.parametrize("name", TORCHVISION)
    def test_a_file_in_place_of_the_folder_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("taken").write_text("no folder")
        assert message(name, folder="taken").startswith("data.folder=taken: ")

    @pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
    def test_mnist_and_what_looks_like_it_is_read_where_it_lies(self, tmp_path: Path, name: str) -> None:
        train, test = self.write_mnist(tmp_path, TORCHVISION[name])
        loaded = load_from(name, folder=str(tmp_path))
        assert_holds(loaded.pool, train, [9, 0, 7])
        assert_holds(loaded.test, test, [9, 0])
        assert (loaded.outputs, loaded.shape) == (10, (1, 28, 28))

    @pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
    def test_cifar_is_read_in_its_layout(self, tmp_path: Path, kind: Any) -> None:
        """torchvision refuses all files but the real ones, so the test's own class knows the sums of its files."""
        images, key = pixels(5, 32, 32, 3), "labels" if kind is CIFAR10 else "fine_labels"
        parts = {"a": (images[:2], [1, 0]), "b": (images[2:3], [2]), "test": (images[3:], [0, 1])}
        files = {
            name: pickle.dumps({"data": np.stack([image.transpose(2, 0, 1).ravel() for image in part]), key: labels})
            for name, (part, labels) in parts.items()
        }
        files["meta"] = pickle.dumps({kind.meta["key"]: ["apple", "pear", "fig"]})
        write_folder(tmp_path / kind.base_folder, files)
        sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
        lists = {"train_list": [["a", sums["a"]], ["b", sums["b"]]], "test_list": [["test", sums["test"]]]}
        meta = {"filename": "meta", "key": kind.meta["key"], "md5": sums["meta"]}

        train, test = downloaded(type("Small", (kind,), {**lists, "meta": meta}), "cifar", tmp_path)
        assert train.labels.tolist() == [1, 0, 2]
        assert test.labels.tolist() == [0, 1]
        assert np.array_equal(train.images(), np.stack([image.transpose(2, 0, 1) for image in images[:3]]))
        assert train.images().flags.c_contiguous

    def test_mnist_is_resized(self, tmp_path: Path) -> None:
        self.write_mnist(tmp_path)
        assert load_from("mnist", folder=str(tmp_path), size=32).pool.inputs.shape == (3, 1, 32, 32)

    @pytest.mark.parametrize("content", [b"", b"<html>not found</html>"], ids=["empty", "page"])
    def test_a_damaged_mnist_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        monkeypatch.chdir(tmp_path)
        self.write_mnist(Path("digits"))
        Path("digits/MNIST/raw/train-images-idx3-ubyte").write_bytes(content)
        assert message("mnist", folder="digits").startswith("data.folder=digits: holds no complete mnist")

    def test_a_truncated_mnist_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        self.write_mnist(Path("digits"))
        file = Path("digits/MNIST/raw/t10k-images-idx3-ubyte")
        file.write_bytes(file.read_bytes()[:-100])
        assert message("mnist", folder="digits").startswith("data.folder=digits: holds no complete mnist")


@pytest.mark.parametrize("source", ["imagenet", "", "digits:", "parquet", "parquet:", "imagefolder:", "imagenet16-x:a"])
def test_an_unknown_source_is_told_with_the_known_ones(source: str) -> None:
    assert message(source) == (
        f"data.source={source}: allowed: digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, parquet:FOLDER, "
        "imagefolder:FOLDER, imagenet16:FOLDER, imagenet16-CLASSES:FOLDER, table:FOLDER, npz:FILE or "
        "package.module:function"
    )


def test_a_number_of_classes_without_end_is_told() -> None:
    assert "allowed: digits, mnist" in message(f"imagenet16-{'9' * 5000}:folder")


@pytest.mark.parametrize("source", ["digits:here", "PARQUET:a"])
def test_what_looks_like_a_function_is_told_as_one(source: str) -> None:
    assert message(source).startswith(f"data.source={source}: {source.split(':')[0]} cannot be imported (")


def test_a_limit_of_one_image_is_refused() -> None:
    assert "at least two training images, has 1" in message("digits", limit=1, size=8)
