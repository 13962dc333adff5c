#!/usr/bin/env bash
# nn.TransformerEncoderLayer decides when it is made whether its activation is ReLU or GELU, and its fast path (eval
# mode without gradients) computes that one. A layer whose attribute `activation` is replaced later uses the new
# function in training and whenever gradients are on, and the old one in inference under torch.no_grad(): validation
# measures another network than the one that was trained.
# What to do: set layer.activation_relu_or_gelu = 0 with the attribute, or pass the function to the constructor, or call
# torch.backends.mha.set_fastpath_enabled(False).
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch import nn

print("torch", torch.__version__)
torch.manual_seed(0)
x = torch.randn(2, 5, 8)
layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="relu").eval()
relu = layer(x)


def outputs():
    with torch.no_grad():
        return layer(x), torch.enable_grad()(layer)(x)


def same(first, second):
    return torch.allclose(first, second, atol=1e-5)


layer.activation = torch.tanh
inference, gradients_on = outputs()
ignored = same(inference, relu)
differ = not same(inference, gradients_on)
print("after layer.activation = tanh, inference still computes ReLU:", ignored)
print("inference differs from the same layer with gradients on:", differ)
layer.activation_relu_or_gelu = 0
inference, gradients_on = outputs()
cured = same(inference, gradients_on) and not same(inference, relu)
print("with activation_relu_or_gelu = 0 both compute tanh:", cured)
layer.activation_relu_or_gelu = 1
torch.backends.mha.set_fastpath_enabled(False)
without_fast_path = same(*outputs())
print("without the fast path both compute tanh:", without_fast_path)
if not (ignored and differ and cured and without_fast_path):
    sys.exit("CHANGED: the fast path follows a replaced activation")
print("As described: the fast path keeps the activation of the constructor.")
PYTHON
