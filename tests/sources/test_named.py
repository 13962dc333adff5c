"""torchvision's files, damaged, where nothing can be downloaded."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import random
import socket
import struct
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, MNIST

from safs_ray.config import ConfigurationError
from safs_ray.sources.named import downloaded
from safs_ray.sources.part import Part

RAW = Path("data/Small/raw")


@pytest.fixture(autouse=True)
def _in_an_empty_folder_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError("there is no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)


def idx(values: np.ndarray[Any, Any]) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def parts_of(dataset: Any) -> tuple[Part, Part]:
    return downloaded(dataset, "small", Path("data"))


def refused(dataset: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parts_of(dataset)
    told = str(caught.value)
    assert told.isprintable()
    assert told.startswith("data.folder=data: holds no complete small")
    return told.removeprefix("data.folder=data: holds no complete small")


class TestMnist:
    @pytest.fixture
    def files(self) -> dict[str, bytes]:
        """Unpacked, by name: three training and two test images."""
        pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
        labels = np.array([0, 1, 2, 1, 0], np.uint8)
        return {
            "train-images-idx3-ubyte": idx(pixels[:3]),
            "train-labels-idx1-ubyte": idx(labels[:3]),
            "t10k-images-idx3-ubyte": idx(pixels[3:]),
            "t10k-labels-idx1-ubyte": idx(labels[3:]),
        }

    @pytest.fixture
    def packed(self, files: dict[str, bytes]) -> dict[str, bytes]:
        return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}

    @pytest.fixture
    def small(self, packed: dict[str, bytes]) -> Any:
        """MNIST, but for the sums of its files."""
        resources = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
        return type("Small", (MNIST,), {"resources": resources, "mirrors": ["http://nowhere/"]})

    def write(self, files: dict[str, bytes]) -> None:
        RAW.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (RAW / name).write_bytes(content)

    def test_packed_files_are_unpacked(self, small: Any, packed: dict[str, bytes], files: dict[str, bytes]) -> None:
        self.write(packed)
        train, test = parts_of(small)
        assert train.labels.tolist() == [0, 1, 2]
        assert train.images().tobytes() == files["train-images-idx3-ubyte"][16:]
        assert test.images().shape == (2, 1, 4, 4)

    def test_files_cut_anywhere_are_refused_by_name(self, small: Any, files: dict[str, bytes]) -> None:
        draws = random.Random(0)
        for name, whole in files.items():
            for end in {0, 3, len(whole) - 1, *draws.sample(range(len(whole)), min(len(whole), 8))}:
                self.write({**files, name: whole[:end]})
                told = refused(small)
                assert told.startswith(f": {RAW / name} "), end
                assert told.endswith("; what is deleted is unpacked or downloaded again")

    def test_what_follows_from_the_advice_is_whole_again(
        self, small: Any, packed: dict[str, bytes], files: dict[str, bytes]
    ) -> None:
        self.write({**files, **packed, "train-images-idx3-ubyte": b""})
        refused(small)
        (RAW / "train-images-idx3-ubyte").unlink()
        assert len(parts_of(small)[0]) == 3

    def test_packed_files_cut_anywhere_are_refused_by_name(self, small: Any, packed: dict[str, bytes]) -> None:
        draws = random.Random(0)
        for name, whole in packed.items():
            for end in {0, len(whole) - 1, *draws.sample(range(len(whole)), 5)}:
                self.write({**packed, name: whole[:end]})
                for unpacked in packed:
                    (RAW / Path(unpacked).stem).unlink(missing_ok=True)
                told = refused(small)
                assert told.startswith(f": {RAW / name} is not the published file, which has the md5 "), end
                assert "and it cannot be downloaded (" in told

    def test_images_of_which_some_have_no_label_are_refused(self, small: Any, files: dict[str, bytes]) -> None:
        self.write({**files, "train-labels-idx1-ubyte": files["t10k-labels-idx1-ubyte"]})
        images, labels = (RAW / f"train-{name}-ubyte" for name in ("images-idx3", "labels-idx1"))
        assert refused(small).startswith(f": {images} holds 3 images and {labels} 2 labels; ")

    def test_more_images_than_memory_holds_are_refused_unread(self, small: Any, files: dict[str, bytes]) -> None:
        head = bytes((0, 0, 8, 3)) + struct.pack(">3I", 3, 2**19, 2**19)
        self.write({**files, "train-images-idx3-ubyte": head})
        with (RAW / "train-images-idx3-ubyte").open("r+b") as file:
            file.truncate(16 + 3 * 2**38)
        with pytest.raises(
            ConfigurationError, match=r"^data\.source=small: 3 images of 1x524288x524288 take 824\.6 GB"
        ):
            parts_of(small)


class TestCifar:
    @pytest.fixture
    def files(self) -> dict[str, bytes]:
        pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
        return {
            "a": pickle.dumps({"data": pixels[:2], "labels": [0, 1]}),
            "b": pickle.dumps({"data": pixels[2:], "labels": [1, 0]}),
            "meta": pickle.dumps({"label_names": ["apple", "pear"]}),
        }

    @pytest.fixture
    def small(self, files: dict[str, bytes]) -> Any:
        """CIFAR-10, but for the sums of its files."""
        sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
        meta = {"filename": "meta", "key": "label_names", "md5": sums["meta"]}
        lists = {"train_list": [["a", sums["a"]]], "test_list": [["b", sums["b"]]], "url": "http://nowhere/small.tar"}
        return type("Small", (CIFAR10,), {**lists, "meta": meta, "base_folder": "small"})

    def write(self, files: dict[str, bytes]) -> None:
        Path("data/small").mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            Path("data/small", name).write_bytes(content)

    def test_whole_batches_are_read(self, small: Any, files: dict[str, bytes]) -> None:
        self.write(files)
        assert parts_of(small)[0].labels.tolist() == [0, 1]

    def test_batches_cut_anywhere_are_refused_by_name(self, small: Any, files: dict[str, bytes]) -> None:
        draws = random.Random(0)
        for name in ("a", "b", "meta"):
            for end in {0, len(files[name]) - 1, *draws.sample(range(len(files[name])), 8)}:
                self.write({**files, name: files[name][:end]})
                told = refused(small)
                assert told.startswith(f": data/small/{name} is not the published file, which has the md5 "), end
                assert "and it cannot be downloaded (" in told

    def test_a_batch_that_runs_code_is_refused_and_runs_none(self, small: Any, files: dict[str, bytes]) -> None:
        class Harm:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (Path("harm"),)

        for name in ("a", "meta"):
            self.write({**files, name: pickle.dumps(Harm())})
            refused(small)
        assert not Path("harm").exists()
