#!/usr/bin/env bash
# copy.deepcopy of a traced network (torch.fx.GraphModule) leaves the forward hooks of the network itself behind, and
# keeps those of its children; a copy of the module that was traced has all of them. So a mask that a forward pre-hook of
# the network holds is gone from the copy that AveragedModel, a fine-tuning script or a search over several copies makes:
# pruned weights come back with the first step, and nothing is said.
# What to do: register the hooks of a copy again, or hang them on children, and count the zeros after a step.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.15.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import copy
import sys

import torch
from torch import fx, nn

print("torch", torch.__version__)
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(4, 4))
mask = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(2, 2)  # 8 of 16 weights stay


def hold(module, inputs):
    with torch.no_grad():
        module.get_submodule("0").weight.mul_(mask)


def alive(module):
    """Pruned weights that are not 0 in a forward pass after a step of SGD."""
    module(torch.randn(8, 4)).square().sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    module(torch.randn(8, 4))
    return int((module.get_submodule("0").weight[mask == 0] != 0).sum())


traced = fx.symbolic_trace(network)
for module in (network, traced):
    module.register_forward_pre_hook(hold)
    module(torch.zeros(1, 4))
found = [alive(copy.deepcopy(network)), alive(copy.deepcopy(traced))]
print(f"pruned weights that a step brings back: copy of the module {found[0]}, copy of the traced one {found[1]}")
if found != [0, 8]:
    sys.exit("CHANGED: a copy of a GraphModule keeps its hooks")
print("As described: the copy of a traced network has lost the hook that held its mask.")
PYTHON
