#!/usr/bin/env bash
# register_step_post_hook looks like the place to put a mask back after each step. The schedule-free optimizers keep a
# second copy of the weights, z, which no hook reaches, and eval() mixes it into the weights: after training with the
# mask in the hook, the network that is evaluated and saved is dense.
# What to do: mask the weights before the optimizer is made and mask the gradients too (weight.register_hook), so that
# no copy ever holds a value outside the mask; or apply the mask once more after optimizer.eval().
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0 schedulefree==1.4.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import schedulefree
import torch
from torch import nn

print("torch", torch.__version__, "schedulefree", version("schedulefree"))


def nonzeros(make_optimizer, mask_gradients):
    torch.manual_seed(0)
    mask = (torch.rand(8, 8) < 0.25).float()
    weight, x = nn.Parameter(torch.randn(8, 8) * mask), torch.randn(8, 8)
    optimizer = make_optimizer([weight])
    optimizer.register_step_post_hook(lambda *_: weight.data.mul_(mask))
    if mask_gradients:
        weight.register_hook(lambda gradient: gradient * mask)
    optimizer.train() if hasattr(optimizer, "train") else None
    for _ in range(5):
        optimizer.zero_grad()
        (weight @ x - 1).square().mean().backward()
        optimizer.step()
    in_training = int(weight.count_nonzero())
    optimizer.eval() if hasattr(optimizer, "eval") else None
    return int(mask.sum()), in_training, int(weight.count_nonzero())


seen = {}
for name, make_optimizer, mask_gradients in (
    ("torch.optim.AdamW", torch.optim.AdamW, False),
    ("AdamWScheduleFree", schedulefree.AdamWScheduleFree, False),
    ("SGDScheduleFree", lambda parameters: schedulefree.SGDScheduleFree(parameters, lr=0.1), False),
    ("AdamWScheduleFree, gradients masked", schedulefree.AdamWScheduleFree, True),
):
    seen[name] = nonzeros(make_optimizer, mask_gradients)
    print(f"{name}: the mask keeps {seen[name][0]}, nonzero in training {seen[name][1]}, after eval() {seen[name][2]}")
if [after > kept for kept, _, after in seen.values()] != [False, True, True, False]:
    sys.exit("CHANGED: schedule-free optimizers keep a weight sparse that is masked after each step")
print("As described: eval() fills the pruned weights.")
PYTHON
