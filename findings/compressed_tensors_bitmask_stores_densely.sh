#!/usr/bin/env bash
# compressed-tensors still names the formats sparse-bitmask and sparse-24-bitmask, in its enumeration and as
# configuration classes, and ModelCompressor accepts them. No compressor stands behind them in 0.20: compress_model
# returns without an error, and the weights are as dense as before.
# What to do: compare the size of the state before and after; store sparse weights in a format of your own (mask and
# values), or keep to a release that has the compressor and pin it on the reading side too.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile \
    numpy==2.4.6 torch==2.13.0 transformers==5.24.0 compressed-tensors==0.20.0 safetensors==0.8.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import torch
from compressed_tensors.compressors import BaseCompressor, ModelCompressor
from compressed_tensors.config import CompressionFormat
from safetensors.torch import save

print("compressed-tensors", version("compressed-tensors"), "torch", torch.__version__)
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(256, 256, bias=False))
with torch.no_grad():
    network[0].weight.mul_(torch.rand(256, 256) < 0.01)
before = len(save(network.state_dict()))
print("nonzero weights:", int(network[0].weight.count_nonzero()), "of", network[0].weight.numel(), "stored:", before)
sizes = {}
for name in ("sparse-bitmask", "sparse-24-bitmask"):
    compressor = ModelCompressor.from_pretrained_model(network, quantization_format=name)
    compressor.compress_model(network)
    sizes[name] = len(save(network.state_dict()))
    print(
        f"{name}: named in CompressionFormat: {name in {format.value for format in CompressionFormat}}, registered "
        f"compressor: {name in BaseCompressor.registered_names()}, bytes after compress_model: {sizes[name]}"
    )
if set(sizes.values()) != {before}:
    sys.exit("CHANGED: the sparse formats compress again")
print("As described: a network with one weight in a hundred is stored whole.")
PYTHON
