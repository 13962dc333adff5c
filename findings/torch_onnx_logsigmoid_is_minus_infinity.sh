#!/usr/bin/env bash
# torch.onnx exports LogSigmoid as Log(Sigmoid(x)). ONNX Runtime's float32 Sigmoid is exactly 0 below about -18, so that
# the exported network gives minus infinity where PyTorch gives x itself; torch.logaddexp, exported as Log(Exp(a) +
# Exp(b)), overflows above 88 alike. An activation search that may pick logsigmoid meets both.
# What to do: write logsigmoid as -softplus(-x) before the export (exported as Softplus, which is stable), and compare
# the exported network on inputs of large size.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile \
    numpy==2.4.6 torch==2.13.0 onnx==1.23.2 onnx-ir==1.1.0 onnxscript==0.7.2 onnxruntime==1.32.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch
from torch import nn

print(
    "torch",
    torch.__version__,
    "onnx",
    onnx.__version__,
    "onnxscript",
    onnxscript.__version__,
    "onnxruntime",
    onnxruntime.__version__,
)
logging.disable(logging.WARNING)
x = torch.tensor([[-100.0, -20.0, -1.0, 0.0, 1.0, 20.0, 100.0]])


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


functions = {
    "logsigmoid(x)": nn.functional.logsigmoid,
    "logaddexp(x, 0)": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "-softplus(-x)": lambda x: -nn.functional.softplus(-x),
}
right = {}
for name, function in functions.items():
    model = torch.onnx.export(Function(function).eval(), (x,), dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    output = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    right[name] = bool(np.allclose(output, function(x).numpy(), atol=1e-5))
    print(
        name,
        [node.op_type for node in model.graph.node],
        "exported:",
        np.round(output[0], 4).tolist(),
        "torch:",
        np.round(function(x)[0].numpy(), 4).tolist(),
    )
if list(right.values()) != [False, False, True]:
    sys.exit("CHANGED: logsigmoid or logaddexp is exported in a stable form")
print("As described: the exported logsigmoid is minus infinity from about -18 on.")
PYTHON
