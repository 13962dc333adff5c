"""What the time and the memory of a sparse network for one image are bounded by, on one core.

    python benchmarks/bounds.py                         LeNet-5, VGG-16 and MobileNetV2
    python benchmarks/bounds.py vgg16 --sparsities 0.9

Networks are those of inference.py. The C program is compiled by -O3 -march=native, with and without -ffp-contract=off.

    vectors, k  thousands of multiply-adds of a vector of pixels, of as many floats as a register of this processor has
    lanes       of a vector that pixels fill, a mean
    terms, MB   weights and places, which every image reads once
    least ms    what so many vectors take where all operands lie in the nearest cache and all sums in registers, or
                so many bytes where the terms come from the next, whichever is more: no program of this form is faster
    ms          of the engine and of C, by many calls within C; of C with products and sums rounded once (FMA), and of
                calls of C from Python; medians of turns that all take, seconds of a core
    MB          of the engine: its tables, and the memory that its values lie in
"""

from __future__ import annotations

import argparse
import ctypes
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from inference import CLASSES, MODELS, dense_network, images_of
from sparse import masks
from timing import Run, medians
from torch import Tensor

from safs_ray.engine.module import EngineModule, read
from safs_ray.engine.passes import Passes, Weigh
from safs_ray.export.c import writing
from safs_ray.export.slim import slim
from safs_ray.network import Network
from safs_ray.sparse import native

CALLS = """
#include "network.h"

int network_calls(const uint8_t *pixels, float *logits, int calls)
{
    int errors = 0;
    for (int call = 0; call < calls; call++)
        errors += network_run(pixels, NETWORK_INPUTS, logits, NETWORK_CLASSES);
    return errors;
}
"""

PEAK = """
#include <stddef.h>

typedef float vector __attribute__((vector_size($BYTES), aligned(4)));

/* Multiply-adds of vectors that begin anywhere, one of each loaded, eight sums in registers. */
float peak(const float *plane, const float *weights, int calls)
{
    vector sums[8] = {{0}};
    for (int call = 0; call < calls; call++)
        for (int term = 0; term < 64; term++)
            for (int i = 0; i < 8; i++)
                sums[i] += weights[term] * *(const vector *)(plane + term + i * $LANES);
    for (int i = 1; i < 8; i++)
        sums[0] += sums[i];
    return sums[0][0];
}

/* The sum of all bytes, a vector at a time. */
float stream(const float *numbers, size_t count)
{
    vector sums[8] = {{0}};
    for (size_t i = 0; i + 8 * $LANES <= count; i += 8 * $LANES)
        for (int j = 0; j < 8; j++)
            sums[j] += *(const vector *)(numbers + i + j * $LANES);
    for (int i = 1; i < 8; i++)
        sums[0] += sums[i];
    return sums[0][0];
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", nargs="*", default=["lenet5", "vgg16", "mobilenet_v2"], metavar="MODEL", help=", ".join(MODELS)
    )
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.99, 0.95, 0.9])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line of the table")
    arguments = parser.parse_args()
    columns = ["network", "sparsity", "vectors, k", "lanes", "terms, MB", "least ms", "engine ms", "C ms", "C, FMA ms"]
    columns += ["C from Python ms", "tables MB", "values MB"]
    with TemporaryDirectory() as place:
        vectors, numbers = _peaks(Path(place), arguments.seconds)
        print(f"{vectors / 1e9:.1f} billion vectors of {native.lanes()} a second, {4 * numbers / 1e9:.1f} GB/s\n")
        print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for model in arguments.models:
            for sparsity in arguments.sparsities:
                found = _line(model, sparsity, Path(place), vectors, numbers, arguments.seconds)
                print(f"| {model} | {sparsity:g} | {' | '.join(found)} |", flush=True)


def _line(model: str, sparsity: float, place: Path, vectors: float, numbers: float, seconds: float) -> list[str]:
    dense = dense_network(model, "relu")
    network, _ = slim(dense.masked(masks(dense, "layer", sparsity)))
    _, passes = read(network)
    counted, terms = _vectors(passes, native.lanes()), sum(len(each.terms) for each in _sums(passes))
    lanes = _vectors(passes, 1) / counted
    least = max(counted / vectors, 1.5 * terms / numbers)  # a weight, and a place of 16 bits
    engine, image = EngineModule(network), images_of(model, 1)
    calls = max(1, int(2e-3 / least))
    ways: list[Run] = [partial(_engine_calls, engine, image, calls), *_programs(network, place, image, calls)]
    times = [each / calls for each in medians(ways, seconds, 5)]
    parts = engine._program._tables.bytes, engine._program._memory.nbytes
    shown = [f"{counted / 1e3:.3g}", f"{lanes:.1f}", f"{6 * terms / 1e6:.2g}"]
    shown += [f"{1000 * each:.3g}" for each in (least, *times)]
    return [*shown, *(f"{each / 1e6:.1f}" for each in parts)]


def _sums(passes: Passes) -> list[Weigh]:
    return [each for each in passes.passes if isinstance(each, Weigh)]


def _vectors(passes: Passes, lanes: int) -> int:
    """Multiply-adds of vectors of so many lanes; of single pixels one for each term."""
    sizes = (passes.values[each.out].pixels for each in _sums(passes))
    return sum(len(each.terms) * -(-size // lanes) for each, size in zip(_sums(passes), sizes, strict=True))


def _engine_calls(engine: EngineModule, image: Tensor, calls: int) -> None:
    with torch.inference_mode():
        engine(image.expand(calls, *image.shape[1:]).contiguous())


def _programs(network: Network, place: Path, image: Tensor, calls: int) -> list[Run]:
    """Calls within C as it is compiled for equal bits, and with products and sums rounded once; and from Python."""
    for name, content in writing.write(network).items():
        (place / name).write_bytes(content)
    (place / "calls.c").write_text(CALLS)
    logits = torch.empty(CLASSES)
    pixels, out = image.data_ptr(), logits.data_ptr()
    libraries = [_compiled(place, ["network.c", "calls.c"], f"-ffp-contract={how}") for how in ("off", "fast")]
    within = [partial(each.network_calls, ctypes.c_void_p(pixels), ctypes.c_void_p(out), calls) for each in libraries]
    one = libraries[0].network_run
    one.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]

    def from_python() -> Tensor:
        for _ in range(calls):
            one(pixels, image.numel(), out, CLASSES)
        return logits

    return [*within, from_python]


def _compiled(place: Path, sources: Sequence[str], *flags: str) -> ctypes.CDLL:
    made = place / f"{sources[0]}{len(list(place.iterdir()))}.so"
    words = [str(writing.compiler()), "-std=gnu99", "-O3", "-march=native", *flags, "-shared", "-fPIC", "-o", str(made)]
    run([*words, *(str(place / source) for source in sources), "-lm"], check=True)
    return ctypes.CDLL(str(made))


def _peaks(place: Path, seconds: float) -> tuple[float, float]:
    """Multiply-adds of vectors, and floats that are read from the second cache or beyond, in a second."""
    text = PEAK.replace("$BYTES", str(4 * native.lanes())).replace("$LANES", str(native.lanes()))
    (place / "peak.c").write_text(text)
    called = _compiled(place, ["peak.c"])
    called.peak.restype = called.stream.restype = ctypes.c_float
    plane, many = torch.rand(1024), torch.rand(1 << 20)
    weights, calls = torch.rand(64) * 1e-6, 2000
    at = [ctypes.c_void_p(each.data_ptr()) for each in (plane, weights, many)]
    ways = [partial(called.peak, at[0], at[1], calls), partial(called.stream, at[2], ctypes.c_size_t(len(many)))]
    times = medians(ways, seconds, 9)
    return 8 * 64 * calls / times[0], len(many) / times[1]


if __name__ == "__main__":
    main()
