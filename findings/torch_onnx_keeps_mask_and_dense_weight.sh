#!/usr/bin/env bash
# A weight pruned by torch.nn.utils.prune, or masked by a parametrization, is a product of a dense weight and a mask.
# torch.onnx folds the product for small layers (64 x 64 here) and leaves it for larger ones (256 x 256): that file
# holds the unpruned weight, the mask and a Mul, twice the bytes, and the initializers show no sparsity. A test with a
# small network sees none of it.
# What to do: call prune.remove, or parametrize.remove_parametrizations, on each layer (of a copy) before the export,
# and count the zeros of the initializers afterwards.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile \
    numpy==2.4.6 torch==2.13.0 onnx==1.23.2 onnx-ir==1.1.0 onnxscript==0.7.2
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import sys
from importlib.metadata import version

import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils import parametrize, prune

print(*(f"{package} {version(package)}" for package in ("torch", "onnx", "onnxscript")))
logging.disable(logging.WARNING)


class Masked(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight):
        return weight * self.mask


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.9)


def masked(layer):
    mask = layer.weight.abs() > layer.weight.abs().flatten().quantile(0.9)
    parametrize.register_parametrization(layer, "weight", Masked(mask.float()))


def removed(layer):
    pruned(layer)
    prune.remove(layer, "weight")


def exported(sparsify, size):
    torch.manual_seed(0)
    layer = nn.Linear(size, size).eval()
    sparsify(layer)
    model = torch.onnx.export(layer, (torch.randn(1, size),), dynamo=True, verbose=False).model_proto
    matrices = [array for array in map(numpy_helper.to_array, model.graph.initializer) if array.ndim == 2]
    zeros = [round(float((array == 0).mean()), 2) for array in matrices]
    ratio = model.ByteSize() / (4 * size * size)
    operators = [node.op_type for node in model.graph.node]
    print(
        f"{size} x {size}, {sparsify.__name__}: {operators}, zeros in each stored matrix {zeros}, "
        f"{ratio:.1f} times the bytes of a dense weight"
    )
    return zeros


zeros = [exported(sparsify, size) for size in (64, 256) for sparsify in (pruned, masked, removed)]
if zeros != [[0.9]] * 3 + [[0.0, 0.9]] * 2 + [[0.9]]:
    sys.exit("CHANGED: torch.onnx folds the product of weight and mask otherwise")
print("As described: the larger layer is exported as an unpruned weight and a mask.")
PYTHON
