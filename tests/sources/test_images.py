from __future__ import annotations

import io
import os
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.sources import load
from safs_ray.sources.decoding import Decoder
from safs_ray.sources.images import require_memory, resized


def encoded(kind: str, **options: Any) -> bytes:
    """An image of 20x20 in colour."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file, kind, **options)
    return file.getvalue()


def pixels_or_fault(content: bytes, size: int | None = None) -> npt.NDArray[np.generic] | str:
    """What an image holds, or the line with which it is refused; any other error passes."""
    try:
        return Decoder("here", size).decoded([("a.png", io.BytesIO(content))], 1)
    except ConfigurationError as error:
        told = str(error)
    assert told.startswith("data.source=here: a.png is not an image (")
    assert told.isprintable()
    return told


KINDS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_cut_anywhere_is_refused_or_has_all_its_pixels(kind: str) -> None:
    whole = encoded(kind)
    draws, refused = random.Random(0), 0
    for end in [0, 1, len(whole) - 1, *draws.sample(range(len(whole)), 40)]:
        found = pixels_or_fault(whole[:end])
        refused += isinstance(found, str)
        assert isinstance(found, str) or np.array_equal(found, pixels_or_fault(whole)), end
    assert refused > 38


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_changed_anywhere_is_read_or_refused(kind: str) -> None:
    whole, draws = encoded(kind), random.Random(0)
    for _ in range(120):
        changed = bytearray(whole)
        for _ in range(draws.randint(1, 3)):
            changed[draws.randrange(draws.choice((40, len(whole))))] = draws.randrange(256)
        pixels_or_fault(bytes(changed), draws.choice((None, 4)))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("size", [None, 32])
@pytest.mark.parametrize("sides", [(9_500, 9_500), (20_000, 20_000), (2**31 - 1, 1), (100_000, 100_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(sides: tuple[int, int], size: int | None) -> None:
    """A PNG of some bytes that claims so many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *sides, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    start = time.process_time()
    assert isinstance(pixels_or_fault(bomb, size), str)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("content", [b"P6 0 5 255\n", b"P6 5 0 255\n", b"P5 0 0 255\n"])
def test_an_image_without_pixels_is_refused(content: bytes) -> None:
    assert isinstance(pixels_or_fault(content), str)


def test_no_program_is_run_on_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand EPS to Ghostscript."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    assert isinstance(pixels_or_fault(encoded("EPS")), str)
    assert not (tmp_path / "ran").exists()


def available() -> int:
    free: int = psutil.virtual_memory().available
    return free


def test_images_that_fit_are_not_refused() -> None:
    require_memory("here", 1000, 3, 32, 32)


def test_images_that_fit_once_but_not_as_often_as_a_run_holds_them_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="which a run holds 3 times"):
        require_memory("here", available() // 1000 // 2, 10, 10, 10)


def test_both_sizes_are_named() -> None:
    with pytest.raises(ConfigurationError) as refused:
        require_memory("here", 10**15, 3, 20, 10)
    text = str(refused.value)
    assert text.startswith(
        "data.source=here: 1,000,000,000,000,000 images of 3x20x10 take 600,000,000.0 GB, which a run "
    )
    assert text.endswith(" GB of memory are free; data.size=PIXELS makes them smaller, data.limit=COUNT takes fewer")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two Parquet files of tiny images, so many that memory cannot hold them at 1024x1024 pixels."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file, "PNG")
    count = available() // 3 // 1024**2 + 1
    for name, rows in (("train", count), ("test", 2)):
        images = pa.array([file.getvalue()]).take(pa.array(np.zeros(rows, np.int64)))
        pq.write_table(pa.table({"image": images, "label": np.arange(rows) % 2}), tmp_path / f"{name}.parquet")
    return tmp_path


def test_a_file_of_too_many_images_is_refused_before_they_are_decoded(many: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"images of 3x1024x1024 take .* GB, .* GB of memory are free"):
        load(DataSection(source=f"parquet:{many}", size=1024))


def test_a_limit_lets_a_large_file_in(many: Path) -> None:
    loaded = load(DataSection(source=f"parquet:{many}", size=1024, limit=2))
    assert loaded.pool.inputs.shape == (2, 3, 1024, 1024)


def test_images_too_large_once_resized_are_refused() -> None:
    images = torch.zeros(1, 1, 2, 2, dtype=torch.uint8).expand(available() // 1024**2, 1, 2, 2)
    with pytest.raises(ConfigurationError, match="images of 1x1024x1024 take"):
        resized(images, (1024, 1024), "here")


def test_resizing_in_parts_is_resizing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (5, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = resized(images, (4, 4), "here")
    monkeypatch.setattr("safs_ray.sources.images.RESIZED_AT_A_TIME", 2 * 3 * 4 * 4)
    assert torch.equal(resized(images, (4, 4), "here"), whole)
