#!/usr/bin/env bash
# ONNX has a place for sparse weights in a model: graph.sparse_initializer. ONNX Runtime reads it. onnx_ir, on which
# onnxscript's optimizer and torch.onnx stand, reads such a model without an error and writes it without the weights: a
# log line says that an input was not found, and the file that it saves can no longer be loaded.
# What to do: keep a model with sparse initializers away from onnx_ir and onnxscript (optimize first, make the weights
# sparse last), and load the final file once in ONNX Runtime before it is published.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile \
    numpy==2.4.6 onnx==1.23.2 onnx-ir==1.1.0 onnxscript==0.7.2 onnxruntime==1.32.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import onnxscript
import onnxscript.optimizer
from onnx import TensorProto, helper

print(
    "onnx",
    onnx.__version__,
    "onnx_ir",
    onnx_ir.__version__,
    "onnxscript",
    onnxscript.__version__,
    "onnxruntime",
    onnxruntime.__version__,
)

weight = np.zeros((8, 16), np.float32)
weight[[1, 4, 6], [3, 0, 9]] = [1, 2, 3]
places = np.flatnonzero(weight)
sparse = helper.make_sparse_tensor(
    helper.make_tensor("W", TensorProto.FLOAT, [len(places)], weight.flat[places]),
    helper.make_tensor("W_indices", TensorProto.INT64, [len(places)], places),
    weight.shape,
)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "W"], ["y"])],
    "pruned",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])],
    sparse_initializer=[sparse],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.save(model, "sparse.onnx")
x = np.arange(8, dtype=np.float32)[None]


def outcome(path):
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        return f"ONNX Runtime refuses it: {str(error).splitlines()[0][:100]}"
    return "right" if np.array_equal(session.run(None, {"x": x})[0], x @ weight) else "wrong"


onnx_ir.save(onnx_ir.load("sparse.onnx"), "saved_by_onnx_ir.onnx")
onnx.save(onnxscript.optimizer.optimize(model), "optimized_by_onnxscript.onnx")
kept = {
    path: len(onnx.load(path).graph.sparse_initializer) + len(onnx.load(path).graph.initializer)
    for path in ("sparse.onnx", "saved_by_onnx_ir.onnx", "optimized_by_onnxscript.onnx")
}
outcomes = {path: outcome(path) for path in kept}
for path in kept:
    print(f"{path}: {kept[path]} weight tensors, {outcomes[path]}")
if list(kept.values()) != [1, 0, 0] or outcomes["sparse.onnx"] != "right":
    sys.exit("CHANGED: onnx_ir or onnxscript no longer drops the sparse initializer")
print("As described: the weights are gone, and no error was raised.")
PYTHON
