#!/usr/bin/env bash
# torch.fx.symbolic_trace of torchvision's efficientnet_b0 gives a graph that goes on dropping blocks at random after
# .eval(): with torch 2.15 and torchvision 0.29 two passes over the same images differ. torchvision marks its function
# stochastic_depth as a leaf (fx.wrap), so the call stands in the graph with the training flag of the moment of tracing;
# and efficientnet_b0() comes in training mode. No error, and .training is False everywhere in the graph. Traced in
# evaluation the graph has the function, too, and never drops anything, not in training either. nn.Dropout is a module
# that the graph calls, and follows the mode.
# What to do: replace torchvision.ops.StochasticDepth and DropBlock by nn.Identity before tracing, or build with
# stochastic_depth_prob=0; for training with it, trace both modes, as torchvision's create_feature_extractor does.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.15.0 torchvision==0.29.2
cd "$folder"
cat >traced.py <<'PYTHON'
import torch
import torchvision
from torch import fx
from torchvision.models import efficientnet_b0

print("torch", torch.__version__, "torchvision", torchvision.__version__)
torch.manual_seed(0)
images = torch.randn(8, 3, 32, 32)


def repeats(network):
    with torch.no_grad():
        return torch.equal(network(images), network(images))


network = efficientnet_b0(weights=None)
training = fx.symbolic_trace(network)
evaluation = fx.symbolic_trace(network.eval())
flags = {
    tuple(node.args[-1:])
    for node in training.graph.nodes
    if node.op == "call_function" and node.target.__name__ == "stochastic_depth"
}
print("the network in evaluation gives the same twice:", repeats(network.eval()))
print("traced in training, then in evaluation:", repeats(training.eval()), "with the flags", flags)
dropout = any(module.p > 0 for module in evaluation.modules() if isinstance(module, torch.nn.Dropout))
evaluation.train()
depth = [node.args[-1] for node in evaluation.graph.nodes if getattr(node.target, "__name__", "") == "stochastic_depth"]
print("traced in evaluation, then in training: drops features:", dropout, "drops blocks:", any(depth))
PYTHON
"$folder/venv/bin/python" -W ignore traced.py | tee seen
grep -q "the same twice: True" seen
grep -q "then in evaluation: False with the flags {(True,)}" seen
grep -q "drops features: True drops blocks: False" seen
