#!/usr/bin/env bash
# The package sparse tells zeros by their bits: -0.0 is not its fill value. A weight array multiplied by a mask holds
# -0.0 wherever a negative weight was pruned, so that half of the pruned weights are stored (SciPy stores none), and the
# negative of an array, whose fill value is -0.0, cannot be concatenated with any other.
# What to do: add 0.0 to an array before sparse.COO.from_numpy (-0.0 + 0.0 is 0.0), and prefer 0.0 - array to -array.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 scipy==1.17.1 sparse==0.19.3
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import scipy.sparse
import sparse

print("sparse", sparse.__version__, "scipy", scipy.__version__, "numpy", np.__version__)
random = np.random.default_rng(0)
mask = random.random((100, 100)) < 0.05
weight = random.normal(size=(100, 100)) * mask
stored = {
    "kept by the mask": int(mask.sum()),
    "scipy.sparse.csr_array": scipy.sparse.csr_array(weight).nnz,
    "sparse.COO": sparse.COO.from_numpy(weight).nnz,
    "sparse.COO after + 0.0": sparse.COO.from_numpy(weight + 0.0).nnz,
}
print(stored)


def concatenated(first, second):
    try:
        return f"nnz {sparse.concatenate([first, second]).nnz}"
    except ValueError as error:
        return f"ValueError: {error}"


array = sparse.COO.from_numpy(weight + 0.0)
by_sign = concatenated(array, -array)
by_difference = concatenated(array, 0.0 - array)
print("concatenated with -array:", by_sign)
print("concatenated with 0.0 - array:", by_difference)
kept = stored["kept by the mask"]
as_described = stored["sparse.COO"] > 5 * kept and stored["sparse.COO after + 0.0"] == kept
if not (as_described and by_sign.startswith("ValueError") and by_difference == f"nnz {2 * kept}"):
    sys.exit("CHANGED: sparse no longer tells -0.0 from 0.0")
print("As described: sparse stores about half of the pruned weights.")
PYTHON
