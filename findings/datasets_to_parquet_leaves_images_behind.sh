#!/usr/bin/env bash
# A data set loaded by datasets' imagefolder and written by to_parquet holds no images: the column has the struct of
# bytes and path, bytes is null, and path is the absolute path on the machine that wrote it. Reading works there, and
# only there, which a test on the same machine cannot find.
# What to do: embed the images first by a map over datasets.table.embed_table_storage, as below, and read one row of the
# file with pyarrow before it is published.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile \
    datasets==5.2.0 numpy==2.4.6 pandas==3.1.1 pyarrow==26.0.1 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["HF_DATASETS_OFFLINE"] = "1"
import datasets
import numpy as np
import pyarrow.parquet
from datasets.table import embed_table_storage
from PIL import Image

print("datasets", version("datasets"), "pyarrow", version("pyarrow"))
datasets.disable_progress_bars()
for name in ("cat", "dog"):
    Path("images", "train", name).mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(Path("images", "train", name, "one.png"))
images = datasets.load_dataset("imagefolder", data_dir="images", cache_dir="cache")["train"]


def bytes_of_images(dataset, path):
    dataset.to_parquet(path)
    rows = pyarrow.parquet.read_table(path)["image"].to_pylist()
    sizes = [len(row["bytes"]) if row["bytes"] else 0 for row in rows]
    print(f"{path}: bytes of each image {sizes}, path of the first is absolute: {os.path.isabs(rows[0]['path'])}")
    return sizes


as_loaded = bytes_of_images(images, "as_loaded.parquet")
embedded = images.with_format("arrow").map(embed_table_storage, batched=True, features=images.features)
with_bytes = bytes_of_images(embedded.with_format(None), "embedded.parquet")
if as_loaded != [0, 0] or min(with_bytes) == 0:
    sys.exit("CHANGED: to_parquet embeds the images of a folder")
print("As described: to_parquet writes paths in place of images.")
PYTHON
