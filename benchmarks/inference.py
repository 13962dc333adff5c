"""What a deployed network costs: dense, masked, sparse, and in ONNX Runtime, side by side in one run.

    python benchmarks/inference.py                          LeNet-5, VGG-16 and ResNet-18 at 90, 95 and 99 %
    python benchmarks/inference.py lenet5 --sparsities 0.99

Initial weights and global masks, random as in sparse.py; every site has the operator swish. "dense" is torch with all
weights, "masked" the same with the zeros in place, both with channels_last memory where images have three channels;
"sparse" and "ONNX Runtime" are what ``python -m safs_ray.export`` writes, dead parts removed and scales folded.

    ms     for a batch of images from uint8 to logits, on one thread; medians of repeats that take turns
    MB     by how much a process that has run another network grows until its largest while it runs this one; on Linux
    kB     of the files; of the dense one, of its numbers
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnxruntime
import psutil
import torch
import torchvision.models  # noqa: F401  some networks import it, and what that takes is not theirs
from sparse import SHAPES, known, masks, network_of
from timing import medians
from torch import Tensor

import safs_ray
from safs_ray import export
from safs_ray.export.slim import DeployedNetwork
from safs_ray.network import Network

Classify = Callable[[Tensor], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["lenet5", "vgg16", "resnet18"], type=known, metavar="MODEL")
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    columns = ["network", "sparsity", "batch", *(f"{way} ms" for way in WAYS), "dense / sparse", "ONNX / sparse"]
    columns += [*(f"{way} MB" for way in WAYS), *(f"{file} kB" for file in ("dense", "sparse", "ONNX"))]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    with TemporaryDirectory() as small:
        _write("mlp", 0.99, Path(small))
        for model in arguments.models:
            for sparsity in arguments.sparsities:
                for line in _lines(model, sparsity, sorted(arguments.batches), arguments.seconds, Path(small)):
                    print(line, flush=True)


def _lines(model: str, sparsity: float, batches: Sequence[int], seconds: float, small: Path) -> list[str]:
    with TemporaryDirectory() as place:
        kilobytes = " | ".join(f"{size / 1e3:,.0f}" for size in _write(model, sparsity, Path(place)))
        classify = [way(Path(place)) for way in WAYS.values()]
        memory = [_apart(name, small, Path(place), [_images(model, batch) for batch in batches]) for name in WAYS]
    lines = []
    for number, batch in enumerate(batches):
        times = medians([partial(run, _images(model, batch)) for run in classify], seconds)
        dense, _, sparse, onnx = times
        columns = [f"{1000 * each:.2f}" for each in times] + [f"{dense / sparse:.1f}", f"{onnx / sparse:.1f}"]
        columns += [f"{each[number] / 1e6:.1f}" for each in memory]
        lines.append(f"| {model} | {sparsity:g} | {batch} | {' | '.join(columns)} | {kilobytes} |")
    return lines


def _write(model: str, sparsity: float, place: Path) -> list[int]:
    """Write a network as every way reads it; the bytes of its numbers, and of the exported files."""
    dense = network_of(model, "swish")
    masked = dense.masked(masks(dense, "global", sparsity))
    dense.save(safs_ray.Folder.at(place / "dense"))
    masked.save(safs_ray.Folder.at(place / "masked"))
    written = [export.write(masked, name, safs_ray.Folder.at(place)).size for name in ("safetensors", "onnx")]
    return [4 * sum(value.numel() for value in dense.state.values()), *written]


def _images(model: str, batch: int) -> Tensor:
    channels, size, _ = SHAPES[model]
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8, generator=draws)


def _torch(folder: Path) -> Classify:
    network = Network.load(safs_ray.Folder.at(folder))
    module = DeployedNetwork(network.build(), network.specification)
    if network.specification.channels == 3:
        module = module.to(memory_format=torch.channels_last)
    return torch.inference_mode()(module)


def _onnx(file: Path) -> Classify:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images.numpy()})


WAYS: Mapping[str, Callable[[Path], Classify]] = {
    "dense": lambda place: _torch(place / "dense"),
    "masked": lambda place: _torch(place / "masked"),
    "sparse": lambda place: torch.inference_mode()(safs_ray.load(place / "network.safetensors", "sparse")),
    "ONNX Runtime": lambda place: _onnx(place / "network.onnx"),
}
"""By name of a column: reads what :func:`_write` wrote, and classifies images."""


def _apart(way: str, small: Path, place: Path, batches: Sequence[Tensor]) -> list[int]:
    """What :func:`_grown` finds in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_grown, way, small, place, batches).result()


def _grown(way: str, small: Path, place: Path, batches: Sequence[Tensor]) -> list[int]:
    """Bytes by which this process has grown at its largest after each batch, smaller ones first."""
    torch.set_num_threads(1)
    WAYS[way](small)(_images("mlp", 1))  # what any network needs is loaded
    before = psutil.Process().memory_info().rss
    classify = WAYS[way](place)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what reading files took is given back
    Path("/proc/self/clear_refs").write_text("5")  # and the largest so far forgotten
    grown = []
    for images in batches:
        classify(images)
        classify(images)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        grown.append(1024 * int(status["VmHWM"].split()[0]) - before)
    return grown


if __name__ == "__main__":
    main()
