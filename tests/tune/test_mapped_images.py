"""Images in a file that all trials of a run map into memory."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.command import start
from tests.tune.runs import ENDS, results, untimed

pytestmark = pytest.mark.slow

KEYS = [
    "data.source=parquet:images", "model.name=mlp", "data.size=8", "data.validation=0.2", "dense.epochs=2",
    "pruning.sparsity=0.9", "pruning.epochs=2", "search.steps=2", "search.epochs=1", "finetune.epochs=1",
    "finetune.epochs_per_step=1", "tune.trials=2", "tune.grace_period=1", "tune.max_concurrent=1", "final.folds=2",
    "final.epochs=2", "final.finalists=1", "run.costs=[4, 25, 110]",
]  # fmt: skip

METADATA = {
    b"huggingface": b'{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["zero", "one", "two", '
    b'"three", "four", "five", "six", "seven", "eight", "nine"], "_type": "ClassLabel"}}}}'
}
"""As ``datasets`` 5.2.0 writes it."""


def png(pixels: npt.NDArray[np.float64]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels * 15.9).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> None:
    digits, folder = load_digits(), tmp_path / "images" / "data"
    folder.mkdir(parents=True)
    shards = {"train-00000-of-00002": (0, 300), "train-00001-of-00002": (300, 600), "test-00000-of-00001": (600, 700)}
    for name, (begin, end) in shards.items():
        encoded = [{"bytes": png(each), "path": None} for each in digits.images[begin:end]]
        table = pa.table({"image": encoded, "label": digits.target[begin:end]})
        pq.write_table(table.replace_schema_metadata(METADATA), folder / f"{name}.parquet")


@pytest.mark.usefixtures("images")
def test_a_run_of_mapped_images_is_that_of_images_in_memory_and_goes_on_with_its_file(tmp_path: Path) -> None:
    for memory in ("hold", "map"):
        process = start(*KEYS, f"run.name={memory}", f"data.memory={memory}", directory=tmp_path)
        output, _ = process.communicate(timeout=ENDS)
        assert process.returncode == 0, output
        assert ("decoding 700 images into " in output) == (memory == "map")
    held, mapped = tmp_path / "runs/hold", tmp_path / "runs/map"
    assert [replace(each, trial="") for each in untimed(mapped)] == [replace(each, trial="") for each in untimed(held)]
    keys = "validation_accuracy", "test_accuracy", "nonzero_weights"
    assert [[row[key] for key in keys] for row in results(mapped)["rows"]] == [
        [row[key] for key in keys] for row in results(held)["rows"]
    ]
    assert json.loads((mapped / "classes.json").read_text())[:3] == ["zero", "one", "two"]
    process = start("--resume", str(mapped), "tune.trials=3", directory=tmp_path)
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    assert "decoding" not in output
    assert len({each.trial for each in untimed(mapped)}) == 3
