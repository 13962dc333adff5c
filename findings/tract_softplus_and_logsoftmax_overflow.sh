#!/usr/bin/env bash
# tract computes Softplus as log(1 + exp(x)), which is infinity from 89 on, and LogSoftmax as the logarithm of a
# softmax: a class 100 below the best gets -87.5, one 140 below gets minus infinity. The reference evaluator of onnx
# gives minus infinity for LogSoftmax too, so a comparison with it shows nothing. ONNX Runtime is right for both. A loss
# or a perplexity computed from such a LogSoftmax is infinite.
# What to do: export the logits and compute log-softmax outside the network; write softplus as max(x, 0) + log(1 +
# exp(-abs(x))), in which nothing overflows.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile \
    numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 tract==0.23.9
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print(*(f"{package} {version(package)}" for package in ("onnx", "onnxruntime", "tract")))
x = np.array([[-120, -80, -1, 0, 20]], np.float32)


def in_onnxruntime(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def in_reference_evaluator(model, x):
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def in_tract(model, x):
    onnx.save(model, "activation.onnx")
    return tract.onnx().load("activation.onnx").into_model().into_runnable().run([x])[0].to_numpy()


STABLE_SOFTPLUS = [
    helper.make_node("Constant", [], ["one"], value_float=1.0),
    helper.make_node("Relu", ["x"], ["positive"]),
    helper.make_node("Abs", ["x"], ["size"]),
    helper.make_node("Neg", ["size"], ["minus"]),
    helper.make_node("Exp", ["minus"], ["small"]),
    helper.make_node("Add", ["small", "one"], ["sum"]),
    helper.make_node("Log", ["sum"], ["rest"]),
    helper.make_node("Add", ["positive", "rest"], ["y"]),
]
infinite = {}
for name, nodes, values in (
    ("Softplus", [helper.make_node("Softplus", ["x"], ["y"])], -x),
    ("LogSoftmax", [helper.make_node("LogSoftmax", ["x"], ["y"])], x),
    ("Softplus by hand", STABLE_SOFTPLUS, -x),
):
    value_info = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, x.shape) for tensor in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "activation", value_info[:1], value_info[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    for run in (in_onnxruntime, in_reference_evaluator, in_tract):
        output = np.asarray(run(model, values))
        infinite[name, run.__name__] = int(np.isinf(output).sum())
        print(f"{name} {run.__name__}: {values[0].tolist()} becomes {[f'{value:.4g}' for value in output[0]]}")
if list(infinite.values()) != [0, 0, 1, 0, 1, 1, 0, 0, 0]:
    sys.exit(f"CHANGED: other functions give infinity now: {infinite}")
print("As described: tract's Softplus, and LogSoftmax in tract and the reference evaluator, give infinity.")
PYTHON
