#!/usr/bin/env bash
# torch.fx.symbolic_trace records what is called on tensors, and torch.no_grad() is called on none: the block's content
# stays in the graph and the block is lost. The traced network computes the same outputs and other gradients: a part
# that was frozen, such as a teacher or a mask computed from the weights, is trained.
# What to do: detach the results (.detach() is recorded), or freeze by requires_grad_(False), and compare the gradients
# of a traced network with the original's, not its outputs alone.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch import fx, nn

print("torch", torch.__version__)


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.scale = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        with torch.no_grad():
            gate = torch.sigmoid(self.gate(x))
        return self.scale(x) * gate


class Detached(Frozen):
    def forward(self, x):
        return self.scale(x) * torch.sigmoid(self.gate(x)).detach()


def gate_gradient(network):
    network.zero_grad()
    output = network(torch.ones(1, 3))
    output.sum().backward()
    gradient = network.gate.weight.grad
    return output.detach(), 0.0 if gradient is None else gradient.abs().sum().item()


gradients = {}
for original in (Frozen(), Detached()):
    (output, eager), (traced_output, traced) = gate_gradient(original), gate_gradient(fx.symbolic_trace(original))
    gradients[type(original).__name__] = eager, traced
    print(
        f"{type(original).__name__}: outputs equal: {torch.equal(output, traced_output)}; gradient of the gate's "
        f"weights, original {eager:.4f}, traced {traced:.4f}"
    )
if gradients["Frozen"][0] != 0 or gradients["Frozen"][1] == 0 or gradients["Detached"] != (0, 0):
    sys.exit("CHANGED: torch.fx keeps no_grad blocks")
print("As described: the traced network trains what torch.no_grad() had frozen.")
PYTHON
