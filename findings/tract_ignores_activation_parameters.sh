#!/usr/bin/env bash
# tract computes two ONNX activations as if their parameter were 1. Swish (opset 24) has alpha, the factor in x *
# sigmoid(alpha * x): tract ignores it. Celu has alpha * (exp(x / alpha) - 1) below zero: tract leaves the outer alpha
# out. Both models load without a message and give other numbers; Elu, with an alpha of its own, is right.
# What to do: export such an activation as basic operators (Mul, Sigmoid, Mul), and compare outputs with another runtime
# at parameters other than 1.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 onnx==1.23.2 tract==0.23.9
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import tract
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print("tract", version("tract"), "onnx", onnx.__version__)
x = np.array([[-3, -1, 0, 1, 3]], np.float32)
SWISH_BY_HAND = [
    helper.make_node("Constant", [], ["alpha"], value_float=2.0),
    helper.make_node("Mul", ["x", "alpha"], ["z"]),
    helper.make_node("Sigmoid", ["z"], ["s"]),
    helper.make_node("Mul", ["x", "s"], ["y"]),
]


def right(name, nodes):
    value_info = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, x.shape) for tensor in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "activation", value_info[:1], value_info[1:]),
        opset_imports=[helper.make_opsetid("", 24)],
        ir_version=11,
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "activation.onnx")
    reference = ReferenceEvaluator(model).run(None, {"x": x})[0]
    runnable = tract.onnx().load("activation.onnx").into_model().into_runnable()
    output = runnable.run([x])[0].to_numpy()
    print(f"{name}: tract {np.round(output[0], 4).tolist()}, reference {np.round(reference[0], 4).tolist()}")
    return bool(np.allclose(output, reference, atol=1e-4))


verdicts = [
    right("Swish, alpha 1", [helper.make_node("Swish", ["x"], ["y"], alpha=1.0)]),
    right("Swish, alpha 2", [helper.make_node("Swish", ["x"], ["y"], alpha=2.0)]),
    right("Swish, alpha 2, as basic operators", SWISH_BY_HAND),
    right("Celu, alpha 2", [helper.make_node("Celu", ["x"], ["y"], alpha=2.0)]),
    right("Elu, alpha 2", [helper.make_node("Elu", ["x"], ["y"], alpha=2.0)]),
]
if verdicts != [True, False, True, False, True]:
    sys.exit("CHANGED: tract reads the parameters of Swish or Celu otherwise")
print("As described: Swish's and Celu's alpha are lost.")
PYTHON
