"""What a deployed network costs: dense by torch, ONNX Runtime and OpenVINO, sparse by safs_ray and as C, in one run.

    python benchmarks/inference.py                          LeNet-5, VGG-16, ResNet-18 and MobileNetV2
    python benchmarks/inference.py lenet5 --sparsities 0.99

Initial weights, masks of one sparsity for every layer, random as in sparse.py, and one operator at every site. torch
computes with channels_last memory where images have three channels. ONNX Runtime and OpenVINO (float32, where it is
installed) run what ``python -m safs_ray.export --format onnx --dense-weights`` writes, safs_ray and the C compiler of
this machine (-O3 -march=native, one thread) what the formats safetensors and c are.

    ms     for a batch of images from uint8 to logits; medians of turns that the ways take, each of ten calls with one
           image or two with more, of which the last half is timed. Seconds of a core; of the wall for several threads
    ratio  of the faster of ONNX Runtime and OpenVINO to safs_ray, and to C
    MB     by how much a process that has run another network grows until its largest while it runs this one; on Linux
    kB     of the files
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnxruntime
import psutil
import torch
import torchvision.models  # noqa: F401  some networks import it, and what that takes is not theirs
from sparse import masks
from timing import medians
from torch import Tensor

import safs_ray
from safs_ray import export
from safs_ray.export.c import writing
from safs_ray.export.slim import DeployedNetwork
from safs_ray.models import Specification
from safs_ray.network import Network

Classify = Callable[[Tensor], object]

MODELS = {
    "lenet5": ("lenet5", 1, 28),
    "mlp": ("mlp", 1, 28),
    "vgg16": ("vgg16", 3, 32),
    "resnet18": ("resnet18", 3, 32),
    "mobilenet_v2": ("mobilenet:network", 3, 32),
    "mobilenet_v2_96": ("mobilenet:network", 3, 96),
}
"""By name: the architecture, channels and side in pixels."""

CLASSES = 10

MANY, FEW = 10, 2
"""Calls of a turn with one image and with more; the last half is timed."""

FILES = {"safetensors": "network.safetensors", "onnx": "network.onnx", "c": "network.c"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = [name for name in MODELS if name != "mlp"]
    parser.add_argument("models", nargs="*", default=chosen, metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.99, 0.95, 0.9])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--operator", default="relu", help="the operator of every site")
    parser.add_argument("--allocation", default="layer", choices=["layer", "global", "erk"])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table")
    arguments = parser.parse_args()
    ways = [name for name in WAYS if name != "OpenVINO" or find_spec("openvino")]
    columns = ["network", "sparsity", "images", "threads", *(f"{way} ms" for way in ways), "ratio", "ratio of C"]
    columns += [*(f"{way} MB" for way in ways), *(f"{file} kB" for file in ("dense", *FILES))]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    with TemporaryDirectory() as small:
        _write("lenet5", 0.99, "relu", "layer", Path(small))
        for model in arguments.models:
            for sparsity in arguments.sparsities:
                for line in _lines(model, sparsity, arguments, ways, Path(small)):
                    print(line, flush=True)


def _lines(
    model: str, sparsity: float, arguments: argparse.Namespace, ways: Sequence[str], small: Path
) -> Sequence[str]:
    batches, lines = sorted(arguments.batches), []
    with TemporaryDirectory() as place:
        sizes = _write(model, sparsity, arguments.operator, arguments.allocation, Path(place))
        kilobytes = " | ".join(f"{size / 1e3:,.0f}" for size in sizes)
        images = [images_of(model, batch) for batch in batches]
        memory = [_apart(name, small, Path(place), images) for name in ways]
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            classify = [WAYS[name](Path(place), threads) for name in ways]
            clock = time.process_time if threads == 1 else time.perf_counter
            for number, batch in enumerate(images):
                calls = MANY if len(batch) == 1 else FEW
                times = medians([partial(run, batch) for run in classify], arguments.seconds, 5, calls, clock)
                own = dict(zip(ways, times, strict=True))
                others = min(own[name] for name in ("ONNX Runtime", "OpenVINO") if name in own)
                columns = [f"{1000 * each:.3g}" for each in times]
                columns += [f"{others / own[name]:.1f}" for name in ("safs_ray", "C")]
                columns += [f"{each[number] / 1e6:.1f}" for each in memory]
                begin = f"| {model} | {sparsity:g} | {len(batch)} | {threads}"
                lines.append(f"{begin} | {' | '.join(columns)} | {kilobytes} |")
    return lines


def _write(model: str, sparsity: float, operator: str, allocation: str, place: Path) -> list[int]:
    """Write a network as every way reads it; the bytes of its numbers, and of the exported files."""
    dense = dense_network(model, operator)
    masked = dense.masked(masks(dense, allocation, sparsity))
    dense.save(safs_ray.Folder.at(place / "dense"))
    export.write(masked, "onnx", safs_ray.Folder.at(place / "dense weights"), dense_weights=True)
    written = [export.write(masked, name, safs_ray.Folder.at(place)).size for name in FILES]
    return [4 * sum(value.numel() for value in dense.state.values()), *written]


def dense_network(model: str, operator: str) -> Network:
    """A network with its initial weights and one operator at every site."""
    name, channels, size = MODELS[model]
    specification = Specification(name, (channels, size, size), CLASSES, (0.5,) * channels, (0.25,) * channels)
    dense = Network.initial(specification, seed=0)
    return dense.assign([operator] * len(dense.sites))


def images_of(model: str, batch: int) -> Tensor:
    _, channels, size = MODELS[model]
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8, generator=draws)


def _torch(place: Path, _threads: int) -> Classify:
    network = Network.load(safs_ray.Folder.at(place / "dense"))
    module = DeployedNetwork(network.build(), network.specification)
    if network.specification.channels == 3:
        module = module.to(memory_format=torch.channels_last)
    return torch.inference_mode()(module)


def _onnx_runtime(place: Path, threads: int) -> Classify:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    file = place / "dense weights" / FILES["onnx"]
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images.numpy()})


def _openvino(place: Path, threads: int) -> Classify:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    compiled = core.compile_model(core.read_model(place / "dense weights" / FILES["onnx"]), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda images: request.infer({"images": images.numpy()}, share_inputs=True)


def _safs_ray(place: Path, threads: int) -> Classify:
    return torch.inference_mode()(safs_ray.load(place / FILES["safetensors"], threads=threads))


def _c(place: Path, _threads: int) -> Classify:
    files = {name: (place / name).read_bytes() for name in (writing.SOURCE, writing.HEADER)}
    run, logits = writing.library(files, "-march=native"), torch.empty(CLASSES)
    out = logits.data_ptr()

    def classify(images: Tensor) -> Tensor:
        first, inputs = images.data_ptr(), images[0].numel()
        for image in range(first, first + len(images) * inputs, inputs):
            run(image, inputs, out, CLASSES)
        return logits

    return classify


WAYS: Mapping[str, Callable[[Path, int], Classify]] = {
    "torch": _torch,
    "ONNX Runtime": _onnx_runtime,
    "OpenVINO": _openvino,
    "safs_ray": _safs_ray,
    "C": _c,
}
"""By name of a column: reads what :func:`_write` wrote, and classifies images on so many threads."""


def _apart(way: str, small: Path, place: Path, batches: Sequence[Tensor]) -> list[int]:
    """What :func:`_grown` finds in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_grown, way, small, place, batches).result()


def _grown(way: str, small: Path, place: Path, batches: Sequence[Tensor]) -> list[int]:
    """Bytes by which this process has grown at its largest after each batch, smaller ones first."""
    torch.set_num_threads(1)
    WAYS[way](small, 1)(images_of("lenet5", 1))  # what any network needs is loaded
    before = psutil.Process().memory_info().rss
    classify = WAYS[way](place, 1)
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
