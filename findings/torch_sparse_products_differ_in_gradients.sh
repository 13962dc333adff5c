#!/usr/bin/env bash
# For a weight stored as a sparse COO or CSR tensor, `weight @ x` and torch.sparse.mm(weight, x) give the same product
# and different gradients: `@` (and torch.mm) gives a dense gradient with values at the pruned places too, and SGD's
# step fails on it ("add(sparse, dense) is not supported", "Sparse CSR tensors do not have is_contiguous");
# torch.sparse.mm gives one with the pattern of the weight, and the step works and keeps the pattern.
# What to do: multiply a sparse weight that is to be trained by torch.sparse.mm, never by `@`, and train it by SGD: Adam
# and Adagrad refuse sparse parameters.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch

print("torch", torch.__version__)
torch.manual_seed(0)
dense = torch.zeros(4, 4)
dense[0, 1], dense[2, 3] = 1, 2
x = torch.randn(4, 2)


def training_step(weight, multiply):
    weight = weight.requires_grad_()
    multiply(weight, x).sum().backward()
    gradient_values = weight.grad.to_dense().count_nonzero().item()
    try:
        torch.optim.SGD([weight], lr=0.1).step()
    except RuntimeError as error:
        return gradient_values, str(error)
    stepped = weight.detach().to_dense()
    keeps_pattern = torch.equal(stepped != 0, dense != 0) and not torch.equal(stepped, dense)
    return gradient_values, "works and keeps the pattern" if keeps_pattern else "does something else"


outcomes = {}
for layout, weight in (("COO", dense.to_sparse), ("CSR", dense.to_sparse_csr)):
    for name, multiply in (("@", torch.matmul), ("torch.sparse.mm", torch.sparse.mm)):
        outcomes[layout, name] = values, step = training_step(weight(), multiply)
        print(f"{layout}, {name}: {values} values in the gradient of a weight of 2 values; SGD's step: {step}")
works = "works and keeps the pattern"
if [(values, step == works) for values, step in outcomes.values()] != [(16, False), (2, True)] * 2:
    sys.exit("CHANGED: the gradients of sparse products, or SGD's handling of them")
print("As described: only torch.sparse.mm gives a gradient that SGD can use.")
PYTHON
