#!/usr/bin/env bash
# Torch-Pruning follows channels from the layer that computes them to the layers that read them, but not through what
# moves them: behind nn.ChannelShuffle, torch.flip or torch.roll over the channels it removes the inputs of the same
# numbers as the outputs, and so those of other channels. The network runs, its shapes are right, and it computes
# something else, without a word. (An index such as x[:, [1, 0]] fails with an IndexError, a residual sum, a depthwise or
# a grouped convolution and a layer that is applied twice are right.)
# What to do: after pruning, compare with the unpruned network in which the removed channels are zero; pass layers before
# such an operation in ignored_layers.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0 torch-pruning==1.6.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import copy
import sys
from importlib.metadata import version

import torch
import torch_pruning
from torch import nn


class Network(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.first, self.last, self.between = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5), between

    def forward(self, x):
        return self.last(self.between(torch.relu(self.first(x))).mean((2, 3)))


def difference(between):
    """Between a pruned network and the one whose removed channels are zero, as part of its largest output."""
    torch.manual_seed(0)
    images, network = torch.rand(2, 3, 6, 6), Network(between).eval()
    zeroed = copy.deepcopy(network)
    pruner = torch_pruning.pruner.MagnitudePruner(
        network, images, torch_pruning.importance.GroupMagnitudeImportance(), pruning_ratio=0.25,
        ignored_layers=[network.last],
    )
    for group in pruner.step(interactive=True):
        removed = next(places for dependency, places in group if dependency.target.module is network.first)
        group.prune()
    with torch.no_grad():
        zeroed.first.weight[removed] = 0
        zeroed.first.bias[removed] = 0
        expected = zeroed(images)
        return ((network(images) - expected).abs().max() / expected.abs().max()).item()


print("torch", torch.__version__, "torch-pruning", version("torch-pruning"))
straight = difference(nn.Identity())
moved = {
    "ChannelShuffle(2)": difference(nn.ChannelShuffle(2)),
    "flip(1)": difference(lambda x: x.flip(1)),
    "roll(3, 1)": difference(lambda x: x.roll(3, 1)),
}
for name, value in {"nothing": straight, **moved}.items():
    print(f"{name:18} between the layers: outputs differ by {value:.1e}")
if straight > 1e-6 or min(moved.values()) < 1e-3:
    sys.exit("CHANGED: channels are followed where they move")
print("As described: a network that moves its channels is pruned wrongly.")
PYTHON
