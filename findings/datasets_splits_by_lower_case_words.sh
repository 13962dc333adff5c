#!/usr/bin/env bash
# datasets.load_dataset on a folder makes splits out of words in the names of files and folders. The words are
# lower-case ones: Train.csv and Test.csv are not split, and the test rows are loaded as training rows. Where one file
# matches, every file that does not is left out without a word. A file below folders named train and test is in both
# splits.
# What to do: pass data_files={"train": ..., "test": ...} and check the number of rows of each split.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile datasets==5.2.0 numpy==2.4.6 pandas==3.1.1 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import os
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["HF_DATASETS_OFFLINE"] = "1"
import datasets

print("datasets", version("datasets"))
datasets.disable_progress_bars()


def splits(name, files):
    for path, rows in files.items():
        file = Path(name, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(["row", *map(str, rows)]) + "\n")
    loaded = datasets.load_dataset(name, cache_dir="cache_of_" + name)
    found = {split: sorted(rows["row"]) for split, rows in loaded.items()}
    print(f"{files} -> {found}")
    return found


found = [
    splits("lower", {"train.csv": [1, 2], "test.csv": [3]}),
    splits("capital", {"Train.csv": [1, 2], "Test.csv": [3]}),
    splits("others", {"train.csv": [1, 2], "more.csv": [3]}),
    splits("nested", {"train/a.csv": [1, 2], "train/test/b.csv": [3]}),
]
described = [{"train": [1, 2], "test": [3]}, {"train": [1, 2, 3]}, {"train": [1, 2]}, {"train": [1, 2, 3], "test": [3]}]
if found != described:
    sys.exit("CHANGED: datasets makes its splits otherwise")
print("As described: test rows in the training split, rows lost, and rows in both.")
PYTHON
