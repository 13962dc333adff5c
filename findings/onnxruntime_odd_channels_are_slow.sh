#!/usr/bin/env bash
# ONNX Runtime lays the channels of convolutions out in blocks (of 8 with AVX2, of 16 with AVX-512) and fills the last block
# up, but only where their number is a multiple of 4. A depthwise convolution of 46 channels, and the one that reads it, fall
# back to the general kernel and take five times as long as with 48, without a word in any log. Pruning of channels leaves such
# numbers: half of a MobileNetV2 may be several times slower than all of it.
# What to do: prune to multiples of 16 channels, or of 4 at least; look at the optimized model
# (SessionOptions.optimized_model_filepath) for convolutions that are not of the domain com.microsoft.nchwc.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import statistics
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

draws = np.random.default_rng(0)


def model(channels):
    """Three convolutions: to so many channels, of each alone, and back to 16."""
    shapes = {"to": (channels, 16, 1, 1), "alone": (channels, 1, 3, 3), "back": (16, channels, 1, 1)}
    weights = [numpy_helper.from_array(draws.standard_normal(shape, dtype=np.float32), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["images", "to"], ["a"]),
        helper.make_node("Conv", ["a", "alone"], ["b"], group=channels, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "back"], ["out"]),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (8, 16, 56, 56)) for name in ("images", "out")]
    graph = helper.make_graph(nodes, "depthwise", value[:1], value[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def outcome(channels):
    """The domain of the depthwise convolution once it is optimized, and milliseconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = f"{channels}.onnx"
    session = onnxruntime.InferenceSession(model(channels).SerializeToString(), options, providers=["CPUExecutionProvider"])
    convolutions = [node for node in onnx.load(f"{channels}.onnx").graph.node if node.op_type == "Conv"]
    domain = convolutions[1].domain or "ai.onnx"
    images, times = np.ones((8, 16, 56, 56), np.float32), []
    for _ in range(30):
        start = time.perf_counter()
        session.run(None, {"images": images})
        times.append(time.perf_counter() - start)
    return domain, 1000 * statistics.median(times)


print("onnxruntime", onnxruntime.__version__)
found = {channels: outcome(channels) for channels in (48, 44, 46)}
for channels, (domain, milliseconds) in found.items():
    print(f"{channels} channels: depthwise convolution of {domain}, {milliseconds:.1f} ms")
if [domain for domain, _ in found.values()] != ["com.microsoft.nchwc", "com.microsoft.nchwc", "ai.onnx"]:
    sys.exit("CHANGED: which convolutions are computed in blocks")
print("As described: a number of channels that is no multiple of 4 leaves the fast kernel.")
PYTHON
