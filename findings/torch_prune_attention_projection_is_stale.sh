#!/usr/bin/env bash
# nn.MultiheadAttention uses its out_proj by weight, without calling it. torch.nn.utils.prune recomputes the pruned
# weight in a hook before a module's call, and so never does here: attention works with the weight of the moment of
# pruning. A state dict loaded later has no effect on the output, and the second training step fails with an error of
# autograd (an in-place change, or a second backward pass) that names no culprit.
# What to do: call prune.remove on out_proj and keep the mask yourself, or mask with nn.utils.parametrize, whose
# property is computed at each use.
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
from torch.nn.utils import parametrize, prune

print("torch", torch.__version__)
torch.manual_seed(0)
x = torch.randn(2, 5, 8)


class Masked(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight):
        return weight * self.mask


def pruned(attention):
    prune.l1_unstructured(attention.out_proj, "weight", 0.5)
    return attention.out_proj, "weight_orig"


def masked(attention):
    mask = (attention.out_proj.weight.abs() > attention.out_proj.weight.abs().median()).float()
    parametrize.register_parametrization(attention.out_proj, "weight", Masked(mask))
    return attention.out_proj.parametrizations.weight, "original"


def behaviour(sparsify):
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    owner, name = sparsify(attention)
    before = attention(x, x, x)[0]
    state = {key: value * 10 if key.endswith(name) else value for key, value in attention.state_dict().items()}
    attention.load_state_dict(state)
    follows = not torch.equal(before, attention(x, x, x)[0])
    optimizer = torch.optim.SGD([getattr(owner, name)], lr=0.1)
    try:
        for _ in range(2):
            optimizer.zero_grad()
            attention(x, x, x)[0].square().sum().backward()
            optimizer.step()
        training = "works"
    except RuntimeError as error:
        training = str(error).split(":")[0].split(" (")[0]
    return follows, training


outcomes = {function.__name__: behaviour(function) for function in (pruned, masked)}
for name, (follows, training) in outcomes.items():
    print(f"{name}: the output {'follows' if follows else 'ignores'} a loaded weight; two training steps: {training}")
if outcomes["pruned"][0] or outcomes["pruned"][1] == "works" or outcomes["masked"] != (True, "works"):
    sys.exit("CHANGED: attention sees the present weight of a pruned out_proj")
print("As described: a pruned out_proj is stale in use.")
PYTHON
