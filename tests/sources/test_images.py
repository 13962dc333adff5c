from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.sources import load
from safs_ray.sources.images import require_memory, resized


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
    assert loaded.pool.images.shape == (2, 3, 1024, 1024)


def test_images_too_large_once_resized_are_refused() -> None:
    images = torch.zeros(1, 1, 2, 2, dtype=torch.uint8).expand(available() // 1024**2, 1, 2, 2)
    with pytest.raises(ConfigurationError, match="images of 1x1024x1024 take"):
        resized(images, 1024, "here")


def test_resizing_in_parts_is_resizing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (5, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = resized(images, 4, "here")
    monkeypatch.setattr("safs_ray.sources.images.RESIZED_AT_A_TIME", 2 * 3 * 4 * 4)
    assert torch.equal(resized(images, 4, "here"), whole)
