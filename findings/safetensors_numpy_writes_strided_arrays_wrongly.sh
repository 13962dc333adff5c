#!/usr/bin/env bash
# safetensors.numpy.save (0.8.0) writes the memory of an array and its shape, without its strides: a transposed or
# column-major array, for example a linear layer's weight turned from (in, out) to (out, in), is stored without an error
# and comes back with the same shape and other numbers.
# What to do: pass np.ascontiguousarray(array) for each array, and compare a file with its source once after writing.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 safetensors==0.8.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

print("safetensors", safetensors.__version__, "numpy", np.__version__)
weight = np.arange(6, dtype=np.float32).reshape(2, 3)
arrays = {
    "transposed": weight.T,
    "column-major": np.asfortranarray(weight),
    "transposed, made contiguous": np.ascontiguousarray(weight.T),
}
equal = {}
for name, array in arrays.items():
    stored = load(save({"weight": array}))["weight"]
    equal[name] = stored.shape == array.shape and np.array_equal(stored, array)
    print(f"{name}: {array.tolist()} is read back as {stored.tolist()}")
if list(equal.values()) != [False, False, True]:
    sys.exit("CHANGED: strided arrays are stored rightly or refused now")
print("As described: strided arrays are stored as other numbers.")
PYTHON
