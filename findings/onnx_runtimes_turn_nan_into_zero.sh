#!/usr/bin/env bash
# ONNX Runtime passes NaN through Relu. OpenVINO, TVM and tract compute Relu as a maximum that takes 0 where the other
# side is NaN, and TVM's Elu and OpenVINO's Exp lose NaN too (0 and infinity). A network that diverged, or a sensor that
# failed, gives NaN in one runtime and ordinary numbers in the other.
# What to do: look for NaN in a network's weights and inputs before it runs; a check of the outputs finds it in some
# runtimes only.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile \
    numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 apache-tvm==0.27.0.post1 tract==0.23.9
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import openvino
import tract
import tvm
from onnx import TensorProto, helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

print(*(f"{package} {version(package)}" for package in ("onnxruntime", "openvino", "apache-tvm", "tract")))
x = np.array([[np.nan, -1, 0, 2]], np.float32)


def in_onnxruntime(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def in_openvino(model):
    onnx.save(model, "activation.onnx")
    return openvino.Core().compile_model("activation.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]


def in_tvm(model):
    compiled = tvm.compile(relax.transform.LegalizeOps()(from_onnx(model)), target="llvm")
    return relax.VirtualMachine(compiled, tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()


def in_tract(model):
    onnx.save(model, "activation.onnx")
    return tract.onnx().load("activation.onnx").into_model().into_runnable().run([x])[0].to_numpy()


keeps_nan = {}
for operator in ("Relu", "Elu", "Exp"):
    value_info = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, x.shape) for tensor in "xy"]
    model = helper.make_model(
        helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "activation", value_info[:1], value_info[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    for run in (in_onnxruntime, in_openvino, in_tvm, in_tract):
        output = np.asarray(run(model))
        keeps_nan[operator, run.__name__] = bool(np.isnan(output[0, 0]))
        print(f"{operator} {run.__name__}: {np.round(x[0], 2).tolist()} becomes {np.round(output[0], 2).tolist()}")
lost = {key for key, kept in keeps_nan.items() if not kept}
described = {
    ("Relu", "in_openvino"),
    ("Relu", "in_tvm"),
    ("Relu", "in_tract"),
    ("Elu", "in_tvm"),
    ("Exp", "in_openvino"),
}
if lost != described:
    sys.exit(f"CHANGED: NaN is lost elsewhere now: {sorted(lost)}")
print("As described: five of the twelve turn NaN into a number or into infinity.")
PYTHON
