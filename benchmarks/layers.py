"""Forward and backward of one layer at a time: the sparse kernels against torch's dense ones, side by side in one run.

    python benchmarks/layers.py
    python benchmarks/layers.py --model resnet18 --sparsities 0.95 --batch 128

Every convolution and linear layer of a network for CIFAR-10 alone, all of its channels live, its mask random. Times are
medians of repeats that take turns, in milliseconds of one core; a ratio is dense / sparse. The gradient of the images,
which no training needs, is not computed. Dense layers compute with channels_last memory, which is faster for them.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from sparse import SHAPES, masks, network_of
from timing import Run, medians
from torch import Tensor, nn

from safs_ray import machine
from safs_ray.sparse import graph, tables
from safs_ray.sparse.graph import Affine, Images, Step
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.layers import apply
from safs_ray.sparse.removal import Live, kept_weights
from safs_ray.sparse.tables import Slot

MODELS = [model for model, (channels, _, _) in SHAPES.items() if channels == 3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vgg16", choices=MODELS)
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    parser.add_argument("--batch", type=int, default=32, help="images, rounded up to whole blocks")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine.keep_memory()
    blocks = -(-arguments.batch // LANES)
    network = network_of(arguments.model, "relu")
    module = network.build()
    steps = graph.read(module, network.specification.example())
    kept = [kept_weights(steps, network.masked(masks(network, "layer", each))) for each in arguments.sparsities]
    columns = "".join(f" {sparsity:g}: sparse ms | ratio |" for sparsity in arguments.sparsities)
    print(f"| layer | weight | pixels | dense ms |{columns}")
    print("|---|---|---|---|" + "---|---|" * len(arguments.sparsities))
    for step in steps:
        if isinstance(step.operation, Affine):
            owner, read = step.operation.owner, steps[step.inputs[0]]
            layer = module.get_submodule(owner)
            ways = [_dense(layer, read, blocks * LANES)]
            ways += [_sparse(step.operation, each[owner], read, step, blocks) for each in kept]
            times = [1000 * each for each in medians(ways, arguments.seconds)]
            ratios = "".join(f" {each:.2f} | {times[0] / each:.1f} |" for each in times[1:])
            shape = "x".join(map(str, network.state[f"{owner}.weight"].shape))
            print(f"| {owner} | {shape} | {step.pixels} | {times[0]:.2f} |{ratios}", flush=True)


def _dense(layer: nn.Module, read: Step, count: int) -> Run:
    """The network's own layer on normally distributed inputs (count, C, H, W) or (count, C)."""
    layer = layer.to(memory_format=torch.channels_last)
    images = torch.randn(count, read.channels, read.pixels, generator=_draws())
    if isinstance(layer, nn.Conv2d):
        side = math.isqrt(read.pixels)
        images = images.view(count, read.channels, side, side).contiguous(memory_format=torch.channels_last)
    else:
        images = images.flatten(1)
    images.requires_grad_(not isinstance(read.operation, Images))
    return _pass(layer, images, list(layer.parameters()))


def _sparse(affine: Affine, kept: Live, read: Step, step: Step, blocks: int) -> Run:
    """The same over the nonzeros of a weight; inputs are (blocks, C * pixels, LANES)."""
    slot = Slot(np.flatnonzero(kept), np.arange(step.channels if affine.bias else 0))
    live, made = (np.ones((each.channels, each.pixels), np.bool_) for each in (read, step))
    layer = tables.by_channels(affine, kept, live, made, slot)
    values = torch.randn(len(slot), generator=_draws()).requires_grad_()
    source = torch.randn(blocks, read.neurons, LANES, generator=_draws())
    source.requires_grad_(not isinstance(read.operation, Images))
    return _pass(lambda images: apply(layer, [images], values)[0], source, [values])


def _pass(layer: Callable[[Tensor], Tensor], images: Tensor, parameters: Sequence[Tensor]) -> Run:
    """Forward and backward with a fixed gradient of the result."""
    wanted = [*parameters, images] if images.requires_grad else list(parameters)
    gradient = torch.ones_like(layer(images))

    def run() -> None:
        torch.autograd.grad(layer(images), wanted, gradient)

    return run


def _draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


if __name__ == "__main__":
    main()
