#!/usr/bin/env bash
# A higher pruning_ratio of Torch-Pruning may leave more of a network. Where a ratio would take every channel of a layer,
# that layer keeps all of them, without a word: of six channels 0.8 leaves one and 0.9 leaves six, with global_pruning and
# max_pruning_ratio=0.8 as without. So a search for the ratio that meets a number of multiply-adds must not bisect, and
# one call with a high ratio may do next to nothing.
# What to do: count what is left after each call, and compare it with what lower ratios leave.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0 torch-pruning==1.6.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import torch
import torch_pruning
from torch import nn


def left(ratio, limit=1.0, together=False):
    """Channels of two convolutions, of which there were 6 and 16."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )
    torch_pruning.pruner.MagnitudePruner(
        network, torch.zeros(1, 1, 28, 28), torch_pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=ratio, max_pruning_ratio=limit, global_pruning=together, ignored_layers=[network[6]],
    ).step()
    return network[0].out_channels, network[2].out_channels


print("torch", torch.__version__, "torch-pruning", version("torch-pruning"))
found = {
    "0.8": left(0.8), "0.9": left(0.9), "0.95": left(0.95), "0.9, max_pruning_ratio 0.8": left(0.9, 0.8),
    "0.9, global": left(0.9, together=True),
}
for ratio, channels in found.items():
    print(f"pruning_ratio {ratio}: {channels} of (6, 16) channels are left")
as_seen = {
    "0.8": (1, 3), "0.9": (6, 1), "0.95": (6, 16), "0.9, max_pruning_ratio 0.8": (6, 1),
    "0.9, global": (6, 2),
}
sys.exit(found != as_seen)
PYTHON
