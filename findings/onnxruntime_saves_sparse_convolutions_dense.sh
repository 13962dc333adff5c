#!/usr/bin/env bash
# ONNX Runtime saves an optimized model when SessionOptions.optimized_model_filepath is set. At its default level,
# ORT_ENABLE_ALL, it packs the weights of convolutions in blocks for the processor, and a sparse weight comes out dense:
# here the file grows more than 50 times. MatMul's sparse weight stays sparse, so a test with a linear layer shows
# nothing.
# What to do: save optimized models with graph_optimization_level = ORT_ENABLE_EXTENDED, which keeps the weights sparse,
# and compare the size of the file with the size of the original. (Seen on x86-64.)
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
random = np.random.default_rng(0)


def save(path, operator, weight_shape, input_shape, output_shape):
    weight = np.where(random.random(weight_shape) < 0.01, 1, 0).astype(np.float32)
    places = np.flatnonzero(weight)
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("W", TensorProto.FLOAT, [len(places)], weight.flat[places]),
        helper.make_tensor("W_indices", TensorProto.INT64, [len(places)], places),
        weight_shape,
    )
    nodes = [
        helper.make_node("Constant", [], ["W"], sparse_value=sparse),
        helper.make_node(operator, ["x", "W"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pruned",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def optimized_size(path, level):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = "optimized.onnx"
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return os.path.getsize("optimized.onnx")


save("Conv.onnx", "Conv", (64, 64, 3, 3), [1, 64, 14, 14], [1, 64, 12, 12])
save("MatMul.onnx", "MatMul", (192, 192), [1, 192], [1, 192])
growth = {}
for path in ("Conv.onnx", "MatMul.onnx"):
    for level in ("ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"):
        growth[path, level] = optimized_size(path, level) / os.path.getsize(path)
        print(f"{path} {os.path.getsize(path)} bytes, saved at {level}: {growth[path, level]:.1f} times that")
if [value > 10 for value in growth.values()] != [False, True, False, False]:
    sys.exit("CHANGED: the convolution's optimized weights are no longer the only dense ones")
print("As described: the default level alone writes the convolution's weights densely.")
PYTHON
