#!/usr/bin/env bash
# torch.utils.flop_counter.FlopCounterMode counts the calls that it knows, by their shapes. The same product of a
# sparse weight (COO or CSR) and a dense matrix costs as much as a dense one when it is written `weight @ x`, and
# nothing at all when it is written torch.sparse.mm(weight, x); even a dense weight is free in torch.sparse.mm, and in a
# product with a vector. No warning names the calls that were left out.
# What to do: count a sparse product by hand, 2 * nonzero values * columns, and check a counter on one layer of known
# cost before its figures are compared.
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
from torch.utils.flop_counter import FlopCounterMode

print("torch", torch.__version__)
torch.manual_seed(0)
weight = torch.randn(256, 128) * (torch.rand(256, 128) < 0.1)
x = torch.randn(128, 64)
DENSE = 2 * 256 * 128 * 64
print(f"by hand: dense {DENSE}, sparse {2 * int(weight.count_nonzero()) * 64}, dense weight and vector {2 * 256 * 128}")


def counted(multiply, *operands):
    with FlopCounterMode(display=False) as counter:
        multiply(*operands)
    return counter.get_total_flops()


seen = {}
for layout, stored in (("dense", weight), ("COO", weight.to_sparse()), ("CSR", weight.to_sparse_csr())):
    seen[layout] = counted(torch.matmul, stored, x), counted(torch.sparse.mm, stored, x)
    print(f"{layout}: `weight @ x` counts {seen[layout][0]}, torch.sparse.mm counts {seen[layout][1]}")
vector = counted(torch.matmul, weight, x[:, 0])
print(f"dense weight and vector: `weight @ x` counts {vector}")
if set(seen.values()) != {(DENSE, 0)} or vector != 0:
    sys.exit("CHANGED: FlopCounterMode counts sparse products or products with a vector otherwise")
print("As described: one product counts as dense or as nothing, by its spelling.")
PYTHON
