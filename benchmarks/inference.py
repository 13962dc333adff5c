"""What a deployed network costs: dense, sparse, and in ONNX Runtime, side by side in one run.

    python benchmarks/inference.py                          LeNet-5, VGG-16 and ResNet-18 at 90, 95 and 99 %
    python benchmarks/inference.py lenet5 --sparsities 0.99

Random weights and global masks as in sparse.py; every site has the operator swish. "dense" is torch with the zeros in
place, the others are what ``python -m safs_ray.export`` writes: dead parts removed, scales folded. Milliseconds for a
batch of images from uint8 to logits, medians of repeats that take turns, on one thread; kilobytes of the files.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable, Sequence
from statistics import median
from tempfile import TemporaryDirectory

import onnxruntime
import torch
from sparse import SHAPES, masks, network_of
from torch import Tensor

import safs_ray
from safs_ray import export
from safs_ray.models import Specification
from safs_ray.sparse.execution import executable

Run = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["lenet5", "vgg16", "resnet18"], choices=list(SHAPES))
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | sparsity | batch | dense ms | sparse ms | ONNX Runtime ms | dense kB | sparse kB | ONNX kB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        for sparsity in arguments.sparsities:
            for line in _lines(model, sparsity, arguments.batches, arguments.seconds):
                print(line, flush=True)


def _lines(model: str, sparsity: float, batches: Sequence[int], seconds: float) -> list[str]:
    channels, size, _ = SHAPES[model]
    network = network_of(Specification(model, channels, size, 10, (0.5,) * channels, (0.25,) * channels), "swish")
    network = network.masked(masks(network, "global", sparsity))
    dense = executable(network, "dense", torch.device("cpu")).eval()
    with TemporaryDirectory() as place:
        folder = safs_ray.Folder.at(place)
        sizes = [4 * sum(value.numel() for value in network.state.values())]
        sizes += [export.write(network, name, folder).size for name in ("safetensors", "onnx")]
        sparse = safs_ray.load(f"{place}/network.safetensors")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(f"{place}/network.onnx", options, providers=["CPUExecutionProvider"])
    kilobytes = " | ".join(f"{size / 1e3:,.0f}" for size in sizes)
    lines = []
    for batch in batches:
        images = torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8)
        runs = [_torch(dense, images), _torch(sparse, images), _onnx(session, images)]
        times = " | ".join(f"{each:.2f}" for each in _times(runs, seconds))
        lines.append(f"| {model} | {sparsity:g} | {batch} | {times} | {kilobytes} |")
    return lines


def _torch(module: torch.nn.Module, images: Tensor) -> Run:
    @torch.inference_mode()
    def run() -> object:
        return module(images)

    return run


def _onnx(session: onnxruntime.InferenceSession, images: Tensor) -> Run:
    given = {"images": images.numpy()}
    return lambda: session.run(None, given)


def _times(runs: Sequence[Run], seconds: float) -> list[float]:
    """Median milliseconds for each."""
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times[0]) < 3:
        for run, own in zip(runs, times, strict=True):
            start = time.process_time()
            run()
            own.append(time.process_time() - start)
    return [1000 * median(own) for own in times]


if __name__ == "__main__":
    main()
