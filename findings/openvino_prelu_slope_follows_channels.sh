#!/usr/bin/env bash
# ONNX broadcasts the slope of PRelu like NumPy: a slope of shape (3,) belongs to the last axis. ONNX Runtime, TVM and
# tract do so. OpenVINO takes a slope of one dimension for one value per channel, axis 1. Where both axes have the same
# size, it gives other numbers without a word.
# What to do: give the slope its full shape, (1, 1, 1, 3) or (3, 1, 1), which all runtimes read alike.
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
from onnx import TensorProto, helper, numpy_helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

print(*(f"{package} {version(package)}" for package in ("onnxruntime", "openvino", "apache-tvm", "tract")))
x = -np.ones((1, 3, 2, 3), np.float32)
values = np.array([1, 2, 3], np.float32)


def in_onnxruntime(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def in_openvino(model):
    onnx.save(model, "prelu.onnx")
    return openvino.Core().compile_model("prelu.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]


def in_tvm(model):
    compiled = tvm.compile(relax.transform.LegalizeOps()(from_onnx(model)), target="llvm")
    return relax.VirtualMachine(compiled, tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()


def in_tract(model):
    onnx.save(model, "prelu.onnx")
    return tract.onnx().load("prelu.onnx").into_model().into_runnable().run([x])[0].to_numpy()


as_numpy = {}
for shape in ((3,), (1, 1, 1, 3), (3, 1, 1)):
    slope = values.reshape(shape)
    value_info = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, x.shape) for tensor in "xy"]
    node = helper.make_node("PRelu", ["x", "slope"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "prelu", value_info[:1], value_info[1:], [numpy_helper.from_array(slope, "slope")]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    for run in (in_onnxruntime, in_openvino, in_tvm, in_tract):
        output = np.asarray(run(model))
        as_numpy[shape, run.__name__] = bool(np.allclose(output, x * slope))
        row, channels = output[0, 0, 0].tolist(), output[0, :, 0, 0].tolist()
        print(f"slope {shape}, {run.__name__}: one row {row}, channels {channels}")
wrong = [key for key, same in as_numpy.items() if not same]
if wrong != [((3,), "in_openvino")]:
    sys.exit(f"CHANGED: other slopes are broadcast otherwise than in NumPy: {wrong}")
print("As described: OpenVINO alone gives a slope of shape (3,) to the channels.")
PYTHON
