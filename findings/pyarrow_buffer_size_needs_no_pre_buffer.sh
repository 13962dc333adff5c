#!/usr/bin/env bash
# pyarrow's ParquetFile takes buffer_size, bytes that are read at a time of a column chunk, and ignores it without a word
# unless pre_buffer=False is given, too. With either alone iter_batches holds a whole row group, as it does by default,
# however few rows a batch has. Images are mostly written in few row groups, so a set that is larger than memory cannot
# be read in batches.
# What to do: give both, or memory_map=True for a local file; look at the memory pool's max_memory().
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 pyarrow==26.0.1
cd "$folder"
cat > read.py <<'PYTHON'
import json
import sys

import pyarrow
import pyarrow.parquet

file = pyarrow.parquet.ParquetFile("images.parquet", **json.loads(sys.argv[1]))
rows = sum(len(batch) for batch in file.iter_batches(batch_size=100))
print(rows, pyarrow.default_memory_pool().max_memory())
PYTHON
"$folder/venv/bin/python" - <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pyarrow
import pyarrow.parquet

print("pyarrow", version("pyarrow"))
draws = np.random.default_rng(0)
images = [draws.bytes(3072) for _ in range(20000)]  # 61 MB
pyarrow.parquet.write_table(pyarrow.table({"image": images}), "images.parquet", row_group_size=len(images))


def megabytes(**settings):
    """The most that a process held which read all rows by hundreds."""
    command = [sys.executable, "read.py", json.dumps(settings)]
    rows, held = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    print(f"{settings}: {rows:,} rows, {held / 1e6:.0f} MB at most")
    return held / 1e6


default, alone = megabytes(), megabytes(buffer_size=65536)
unbuffered, both = megabytes(pre_buffer=False), megabytes(pre_buffer=False, buffer_size=65536)
if min(default, alone, unbuffered) < 60 or both > 30:
    sys.exit("CHANGED: buffer_size is heeded with pre_buffer, or needs no pre_buffer=False")
print("As described: buffer_size alone changes nothing.")
PYTHON
