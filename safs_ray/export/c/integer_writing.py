"""A network in 8-bit integers as ``network.c`` and ``network.h``, which check themselves on recorded images."""

from __future__ import annotations

import torch

from safs_ray.export.c.integer_source import IntegerSource
from safs_ray.export.c.tables import array
from safs_ray.export.c.writing import HEADER, MEMORY, MISTAKE, RECORDED, SOURCE, UNIT
from safs_ray.export.int8 import reference
from safs_ray.export.int8.integers import IntegerProgram
from safs_ray.models import Specification
from safs_ray.randomness import generator


def write(program: IntegerProgram, specification: Specification) -> dict[str, bytes]:
    """The files of a network in whole numbers."""
    source = IntegerSource(program)
    interface = MEMORY.replace("$KIND", "int8_t") + MISTAKE + _FUNCTIONS + _check(program, specification)
    text = source.text(["<stddef.h>", "<stdint.h>", f'"{HEADER}"'], interface)
    return {SOURCE: text.encode(), HEADER: _header(program, specification, source).encode()}


_FUNCTIONS = """
int network_run_in(int8_t *memory, const uint8_t *pixels, size_t inputs, int32_t *logits, size_t classes)
{
    const int error = mistake(memory, pixels, inputs, logits, classes);
    if (error)
        return error;
    read_pixels(memory, pixels);
    run(memory, logits);
    return NETWORK_OK;
}

int network_run(const uint8_t *pixels, size_t inputs, int32_t *logits, size_t classes)
{
    return network_run_in(shared_memory, pixels, inputs, logits, classes);
}
"""


def _header(program: IntegerProgram, specification: Specification, source: IntegerSource) -> str:
    (channels, height, width), classes = specification.shape, specification.outputs
    name = f"{specification.model} in 8-bit integers"
    return f"""/* A sparse {name}: images of {specification.size} to {classes} logits, by safs_ray.

   Constants take {source.constants} bytes of flash on a processor of 32 bits, beside the code; the numbers that a
   call works on take {source.memory} bytes of RAM. Nothing is allocated, and no float is computed with.

   network.c is C99 and needs no library: all compilers give the same bits. `cc -std=c99 -O3 -c network.c` compiles it,
   and `cc -std=c99 -O3 -DNETWORK_CHECK network.c && ./a.out` checks it on recorded images. */

#ifndef NETWORK_H
#define NETWORK_H

#include <stddef.h>
#include <stdint.h>

enum {{
    NETWORK_CHANNELS = {channels},
    NETWORK_HEIGHT = {height},
    NETWORK_WIDTH = {width},
    NETWORK_INPUTS = {channels * height * width},
    NETWORK_CLASSES = {classes},
    NETWORK_MEMORY = {source.memory} /* bytes that a call works on */
}};

enum {{ NETWORK_OK = 0, NETWORK_NO_POINTER = 1, NETWORK_WRONG_SIZE = 2 }};

/* What a logit of 1 stands for, where more than the order of the logits counts. */
{UNIT}{program.unit:.9g}f

/* The logits of an image: NETWORK_INPUTS pixels from 0 to 255, channel by channel and row by row; the normalisation is
   part of the network. Returns NETWORK_OK or what is wrong. One call at a time, for the memory is shared. */
int network_run(const uint8_t *pixels, size_t inputs, int32_t *logits, size_t classes);

/* The same in NETWORK_MEMORY bytes of the caller: calls with memories of their own run side by side. */
int network_run_in(int8_t *memory, const uint8_t *pixels, size_t inputs, int32_t *logits, size_t classes);

#endif
"""


def _check(program: IntegerProgram, specification: Specification) -> str:
    """The program that checks itself."""
    draws = generator(0, "recorded images")
    shape = specification.example(RECORDED).shape
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    return f"""
#ifdef NETWORK_CHECK
#include <stdio.h>

{array("uint8_t", "recorded", images.flatten().tolist())}
{array("int32_t", "expected", reference.run(program, images).flatten().tolist())}
int main(void)
{{
    for (size_t image = 0; image < {RECORDED}; image++) {{
        int32_t logits[NETWORK_CLASSES];
        if (network_run(recorded + image * NETWORK_INPUTS, NETWORK_INPUTS, logits, NETWORK_CLASSES) != NETWORK_OK)
            return 2;
        for (size_t i = 0; i < NETWORK_CLASSES; i++)
            if (logits[i] != expected[image * NETWORK_CLASSES + i]) {{
                printf("image %u: logit %u is %ld, not %ld\\n", (unsigned)image, (unsigned)i, (long)logits[i],
                       (long)expected[image * NETWORK_CLASSES + i]);
                return 1;
            }}
    }}
    printf("the logits are the recorded ones\\n");
    return 0;
}}
#endif
"""
