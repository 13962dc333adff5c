"""A network as ``network.c`` and ``network.h``, with a program that checks itself on recorded images."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from torch import Tensor

from safs_ray.config import refusal
from safs_ray.engine.module import read
from safs_ray.engine.passes import Passes
from safs_ray.export.c.source import Source
from safs_ray.export.c.tables import array
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.randomness import generator
from safs_ray.sparse.graph import UnsupportedError, plane_shape

SOURCE, HEADER = "network.c", "network.h"

RECORDED, TOLERANCE = 3, 1e-4
"""Images that the program checks itself with, and the difference of logits that it allows, of the largest."""

FLAGS = ("-std=c99", "-O3", "-ffp-contract=off")


def write(network: Network) -> dict[str, bytes]:
    """The files of a network.

    Raises:
        ConfigurationError: C cannot express what it does.
    """
    return _files(network, passes_of(network))


def passes_of(network: Network) -> Passes:
    """What C is to do for an image.

    Raises:
        ConfigurationError: C cannot express it.
    """
    model = network.specification.model
    try:
        _, passes = read(network)
    except UnsupportedError as reason:
        raise refusal("format", "c", f"cannot express this {model}: {reason}; allowed: onnx, torch") from None
    if passes.foreign:
        lacking = "; ".join(f"{each.name} ({each.reason})" for each in passes.foreign)
        raise refusal("format", "c", f"cannot express what this {model} does: {lacking}; allowed: onnx, torch")
    return passes


def _files(network: Network, passes: Passes) -> dict[str, bytes]:
    specification = network.specification
    source = Source(passes, specification)
    includes = ["<float.h>", "<math.h>", "<stddef.h>", "<stdint.h>", f'"{HEADER}"']
    called = _place_of_logits(source, specification) + _functions(specification)
    interface = MEMORY.replace("$KIND", "float") + MISTAKE + called + _check(network)
    text = source.text(includes, interface)
    return {SOURCE: text.encode(), HEADER: _header(specification, source).encode()}


def _place_of_logits(source: Source, specification: Specification) -> str:
    cells, tables, scaled = source.logits, "", ""
    if specification.target_mean:
        scales = {"unit": specification.target_deviation, "shift": specification.target_mean}
        tables = "".join(array("float", name, values) for name, values in scales.items())
        scaled = " * unit[i] + shift[i]"
    return f"""
{tables}static void write_logits(const float *memory, float *logits)
{{
    for (size_t i = 0; i < NETWORK_CLASSES; i++)
        logits[i] = memory[{cells.base + cells.origin} + i * {cells.stride}]{scaled};
}}
"""


UNIT = "#define NETWORK_UNIT "
"""What a header says of logits that are whole numbers, before what 1 stands for."""

MEMORY = """
static $KIND shared_memory[NETWORK_MEMORY];
"""

MISTAKE = """
static int mistake(const void *memory, const void *pixels, size_t inputs, const void *logits, size_t classes)
{
    if (!memory || !pixels || !logits)
        return NETWORK_NO_POINTER;
    return inputs == NETWORK_INPUTS && classes == NETWORK_CLASSES ? NETWORK_OK : NETWORK_WRONG_SIZE;
}
"""

_FUNCTION = """
int $RUN_in(float *memory, const $TYPE *pixels, size_t inputs, float *logits, size_t classes)
{
    const int error = mistake(memory, pixels, inputs, logits, classes);
    if (error)
        return error;
    $READ(memory, pixels);
    run(memory);
    write_logits(memory, logits);
    return NETWORK_OK;
}

int $RUN(const $TYPE *pixels, size_t inputs, float *logits, size_t classes)
{
    return $RUN_in(shared_memory, pixels, inputs, logits, classes);
}
"""

_OF_BYTES = (("network_run", "uint8_t", "read_bytes"), ("network_run_floats", "float", "read_floats"))
_OF_NUMBERS = (("network_run", "float", "read_floats"),)
"""What a user calls: the name, the type of what it takes, and what reads it."""


def _called(specification: Specification) -> tuple[tuple[str, str, str], ...]:
    return _OF_BYTES if specification.kind == "uint8" else _OF_NUMBERS


def _functions(specification: Specification) -> str:
    return "".join(
        _FUNCTION.replace("$RUN", run).replace("$TYPE", kind).replace("$READ", read)
        for run, kind, read in _called(specification)
    )


def _header(specification: Specification, source: Source) -> str:
    channels, height, width = plane_shape(specification.shape)
    outputs = f"{specification.outputs} {'values' if specification.target_mean else 'logits'}"
    inputs = f"{specification.noun}s of {specification.size}"
    return f"""/* A sparse {specification.model}: {inputs} to {outputs}, by safs_ray.

   Constants take {source.flash} bytes of flash on a processor of 32 bits, beside the code; the numbers that a call
   works on take {4 * source.memory} bytes of RAM. Nothing is allocated.

   network.c is C99 and needs math.h alone. `cc -std=c99 -O3 -ffp-contract=off -c network.c` compiles it; without
   -ffp-contract=off some compilers round a product and a sum once, and bits differ between compilers.
   `cc -std=c99 -O3 -ffp-contract=off -DNETWORK_CHECK network.c -lm && ./a.out` checks it on recorded images. */

#ifndef NETWORK_H
#define NETWORK_H

#include <stddef.h>
#include <stdint.h>

enum {{
    NETWORK_CHANNELS = {channels},
    NETWORK_HEIGHT = {height},
    NETWORK_WIDTH = {width},
    NETWORK_INPUTS = {channels * height * width},
    NETWORK_CLASSES = {specification.outputs},
    NETWORK_MEMORY = {source.memory} /* floats that a call works on */
}};

enum {{ NETWORK_OK = 0, NETWORK_NO_POINTER = 1, NETWORK_WRONG_SIZE = 2 }};

/* {_explained(specification)} */
{_declared(specification, "", "")}
/* The same in NETWORK_MEMORY floats of the caller: calls with memories of their own run side by side. */
{_declared(specification, "_in", "float *memory, ")}
#endif
"""


def _explained(specification: Specification) -> str:
    """The comment on what a user calls."""
    if specification.is_of_images:
        takes = "The logits of an image: NETWORK_INPUTS pixels from 0 to 255, channel by channel and row by row; the"
        return f"{takes} normalisation is\n   {_RETURNS}"
    values = " from 0 to 255" if specification.kind == "uint8" else ""
    takes = f"The outputs for NETWORK_INPUTS values{values}, channel by channel and row by row; the"
    return f"{takes} normalisation is\n   {_RETURNS}"


_RETURNS = "part of the network. Returns NETWORK_OK or what is wrong. One call at a time, for the memory is shared."


def _declared(specification: Specification, end: str, first: str) -> str:
    return "".join(
        f"int {run}{end}({first}const {kind} *pixels, size_t inputs, float *logits, size_t classes);\n"
        for run, kind, _ in _called(specification)
    )


@torch.no_grad()
def _check(network: Network) -> str:
    """The program that checks itself."""
    draws = generator(0, "recorded images")
    specification = network.specification
    shape = (RECORDED, *specification.shape)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    if specification.kind != "uint8":
        images = specification.drawn(RECORDED, draws)
    logits = specification.restored(network.build().eval()(specification.normalised(images)))
    kind = _called(specification)[0][1]
    return f"""
#ifdef NETWORK_CHECK
#include <stdio.h>

{array(kind, "recorded", images.flatten().tolist())}
{array("float", "expected", logits.flatten().tolist())}
int main(void)
{{
    const float allowed = {TOLERANCE * max(logits.abs().max().item(), 1e-6):.9g}f;
    float largest = 0.0f;
    for (size_t image = 0; image < {RECORDED}; image++) {{
        float logits[NETWORK_CLASSES];
        if (network_run(recorded + image * NETWORK_INPUTS, NETWORK_INPUTS, logits, NETWORK_CLASSES) != NETWORK_OK)
            return 2;
        for (size_t i = 0; i < NETWORK_CLASSES; i++) {{
            const float difference = fabsf(logits[i] - expected[image * NETWORK_CLASSES + i]);
            largest = difference > largest || difference != difference ? difference : largest;
        }}
    }}
    printf("the logits differ by at most %.3g from the recorded ones; allowed: %.3g\\n", (double)largest,
           (double)allowed);
    return largest <= allowed ? 0 : 1;
}}
#endif
"""


def compiler() -> str | None:
    """The C compiler of this machine."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def library(files: Mapping[str, bytes], *flags: str) -> Callable[[int, int, int, int], int]:
    """``network_run`` of the files, with addresses for its pointers, compiled for this machine by its own compiler.

    Args:
        flags: of the compiler, beside :data:`FLAGS`.

    Raises:
        RuntimeError: the compiler refuses them; the message has its words.
    """
    command = compiler()
    assert command, "there is no C compiler"
    with TemporaryDirectory() as place:
        for name, content in files.items():
            Path(place, name).write_bytes(content)
        made = Path(place, "network.so")
        words = [command, *FLAGS, *flags, "-shared", "-fPIC", "-o", str(made), str(Path(place, SOURCE)), "-lm"]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command} refuses it: {done.stderr}")
        run = ctypes.CDLL(str(made)).network_run
    run.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
    return cast(Callable[[int, int, int, int], int], run)


def compiled(files: Mapping[str, bytes], *flags: str) -> Callable[[Tensor], Tensor]:
    """What the files compute, one image after the other; arguments and errors are those of :func:`library`."""
    run, classes, unit = library(files, *flags), _classes(files[HEADER]), _unit(files[HEADER])

    def predict(images: Tensor) -> Tensor:
        logits = torch.empty(len(images), classes, dtype=torch.int32 if unit else torch.float32)
        inputs, image, out = images[0].numel(), images.contiguous(), logits.data_ptr()
        for number in range(len(images)):
            place = image.data_ptr() + number * inputs * image.itemsize
            if error := run(place, inputs, out + 4 * number * classes, classes):
                raise ValueError(f"network_run returned {error} for images of {tuple(images.shape[1:])}")
        return logits * unit if unit else logits

    return predict


def _classes(header: bytes) -> int:
    return int(header.split(b"NETWORK_CLASSES = ")[1].split(b",")[0])


def _unit(header: bytes) -> float | None:
    """What a logit of 1 stands for, where logits are whole numbers."""
    _, found, rest = header.partition(UNIT.encode())
    return float(rest.split(b"f", 1)[0]) if found else None
