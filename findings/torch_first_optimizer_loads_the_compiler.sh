#!/usr/bin/env bash
# The first optimizer of a process imports torch.compile's whole front end, torch._dynamo, though nothing is compiled:
# some 900 modules, a second of CPU and 170 MB with torch 2.13. add_param_group, which every optimizer calls as it is
# made, is wrapped by a guard that imports the compiler when it is first called, and so are step, zero_grad and
# state_dict. The same comes with the first pass of a ReLU on the meta device, and with the first forward-mode derivative
# of a linear layer that has a bias (without one, or of a convolution, it does not). Of short trainings in many
# processes, as a hyperparameter search starts them, it is most of the start, and the memory is taken in each.
# What to do: derive an optimizer whose methods are the unguarded ones, which functools.wraps keeps:
# inspect.unwrap(torch.optim.Optimizer.add_param_group) and so on; or make one optimizer before processes are forked.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0
cd "$folder"
cat >loads.py <<'PYTHON'
import sys

import torch
from torch import nn
from torch.autograd import forward_ad

weight = nn.Parameter(torch.zeros(2))
bias, case = sys.argv[1] == "derivative with a bias", sys.argv[1]
modules = len(sys.modules)
if case == "optimizer":
    torch.optim.SGD([weight], lr=0.1)
elif case == "unguarded optimizer":
    import inspect

    class SGD(torch.optim.SGD):
        add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
        step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))

    optimizer = SGD([weight], lr=0.1)
    weight.grad = torch.ones(2)
    optimizer.step()
    assert weight.tolist() == torch.full((2,), -0.1).tolist()
elif case == "meta":
    with torch.device("meta"):
        nn.ReLU()(torch.zeros(2))
else:
    with torch.no_grad(), forward_ad.dual_level():
        nn.Linear(4, 3, bias=bias)(forward_ad.make_dual(torch.ones(1, 4), torch.ones(1, 4)))
print(f"{case}: {'' if 'torch._dynamo' in sys.modules else 'no '}torch._dynamo, {len(sys.modules) - modules} new modules")
PYTHON
"$folder/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
for case in "optimizer" "unguarded optimizer" "meta" "derivative with a bias" "derivative without one"; do
    "$folder/venv/bin/python" -W ignore loads.py "$case" | tee -a seen
done
for loads in "optimizer" "meta" "derivative with a bias"; do
    grep -Eq "^$loads: torch._dynamo, [5-9][0-9]{2,} new modules$|^$loads: torch._dynamo, 1[0-9]{3} new modules$" seen
done
for spares in "unguarded optimizer" "derivative without one"; do
    grep -q "^$spares: no torch._dynamo" seen
done
