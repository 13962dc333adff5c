#!/usr/bin/env bash
# A subclass of a torch optimizer that calls super().step() may run its step hooks twice a step. torch wraps the step of
# a class when the class's first instance is made; as long as no plain torch.optim.SGD was made in the process, the hook
# of the subclass runs once, afterwards twice, for instances made before as well. A hook that counts, regrows weights or
# moves a mask then depends on what other code ran earlier.
# What to do: make step hooks idempotent, or count steps by a counter of your own in the training loop, not by calls of
# the hook.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch

print("torch", torch.__version__)
weight = torch.nn.Parameter(torch.ones(1))
weight.grad = torch.ones(1)


class LoggedSGD(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


def calls_in_a_step(optimizer):
    calls = []
    handle = optimizer.register_step_post_hook(lambda *_: calls.append(1))
    optimizer.step()
    handle.remove()
    return len(calls)


optimizer = LoggedSGD([weight], lr=0.1)
before = calls_in_a_step(optimizer)
torch.optim.SGD([weight], lr=0.1)
after = calls_in_a_step(optimizer)
print(f"the subclass's hook runs {before} time in a step; after a plain SGD was made elsewhere, {after} times")
if (before, after) != (1, 2):
    sys.exit("CHANGED: the number of hook calls no longer depends on other optimizers")
print("As described: the same optimizer's hook runs once, then twice.")
PYTHON
