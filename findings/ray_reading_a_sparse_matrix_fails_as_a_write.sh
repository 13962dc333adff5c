#!/usr/bin/env bash
# Ray hands a task the arrays of an object without a copy and read-only. A SciPy CSR matrix that is a product of two
# sparse matrices has unsorted indices, and several methods that only read (sum, max, abs, sqrt, count_nonzero) first
# sort them in place. In the driver they work; in a task on the same matrix they raise "ValueError: WRITEBACKIFCOPY base
# is read-only". A matrix made from a dense one is sorted already and shows nothing.
# What to do: call matrix.sum_duplicates() before ray.put (it sorts too), or matrix.copy() in the task.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 scipy==1.17.1 ray==2.60.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
import ray
import scipy
import scipy.sparse

print("ray", ray.__version__, "scipy", scipy.__version__)
METHODS = ("sum", "max", "sqrt", "__abs__", "count_nonzero")


def failures(matrix):
    failed = []
    for name in METHODS:
        try:
            getattr(matrix, name)()
        except ValueError as error:
            failed.append(f"{name}: {error}")
    return failed


def pruned(rows, columns):
    return scipy.sparse.random_array((rows, columns), density=0.02, format="csr", rng=random)


random = np.random.default_rng(0)
first, second = pruned(600, 500), pruned(500, 400)
sorted_product = first @ second
sorted_product.sum_duplicates()
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
task = ray.remote(failures)
counts = {}
for name, matrix in (
    ("pruned layer", first),
    ("product of two", first @ second),
    ("product, sum_duplicates() called", sorted_product),
):
    in_task = ray.get(task.remote(ray.put(matrix)))
    in_driver = failures(matrix.copy())
    counts[name] = len(in_driver), len(in_task)
    print(
        f"{name}: {len(in_driver)} of {len(METHODS)} methods fail in the driver, {len(in_task)} in a task {in_task[:1]}"
    )
ray.shutdown()
if list(counts.values()) != [(0, 0), (0, len(METHODS)), (0, 0)]:
    sys.exit("CHANGED: reading an unsorted sparse matrix in a Ray task fails otherwise or not at all")
print("As described: the product alone cannot be read in a task.")
PYTHON
