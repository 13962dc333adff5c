"""The loops of a network in C.

Sums go over a whole plane, its padding included, for four terms at a time: the fastest of the forms that compilers
vectorise. Small planes are summed up in an array whose length is known, which they keep in registers.
"""

from __future__ import annotations

from safs_ray.export.c.windows import sliding

STRUCTURES = """
/* Planes lie behind each other, `stride` numbers apart, each with `origin` zeros before its first pixel. Its rows are
   `pitch` apart, and `length` numbers lie between its first pixel and the next plane's zeros. */
struct planes {
    uint32_t place, stride, origin, channels, height, width, pitch, length;
};

/* Each plane is a bias and planes that begin at `nearest + places[term]`, times weights; then a function of that. */
struct sums {
    struct planes out;
    uint32_t nearest, parameters_of_channel;
    const network_count *counts;
    const float *weights, *bias, *parameters;
    void (*function)(float *restrict, size_t, const float *restrict);
};
"""

WINDOWS = """
/* Each pixel is the largest number, or the sum times a weight, of a window of the plane that begins at `sources`. */
struct windows {
    struct planes out;
    const uint32_t *sources;
    int32_t source_height, source_width, source_pitch;
    int32_t kernel[2], step[2], padding[2], dilation[2];
    const float *weights;
};
"""

LISTS = """
/* Each pixel is the largest number, or the sum times a weight, of `places` numbers of the plane at `sources`. */
struct lists {
    struct planes out;
    const uint32_t *sources;
    const int32_t *table;
    uint32_t places;
    const float *weights;
};
"""

FILL = """
static void fill(float *values, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        values[i] = value;
}
"""

CLEAR = """
/* Make all planes zero. */
static void clear(float *memory, const struct planes *planes)
{
    fill(memory + planes->place, (size_t)planes->channels * planes->stride + planes->origin, 0.0f);
}
"""

FINISH = """
/* Apply the function to a plane, and write the zeros around its pixels. */
static void finish(const struct sums *sums, uint32_t channel, float *out)
{
    const struct planes *own = &sums->out;
    if (sums->function)
        sums->function(out, own->length, sums->parameters + (size_t)channel * sums->parameters_of_channel);
    fill(out - own->origin, own->origin, 0.0f);
    fill(out + own->length, own->origin, 0.0f);
    if (own->pitch == own->width)
        return;
    for (size_t row = 0; row < own->height; row++) {
        const size_t first = row * own->pitch + own->width, end = (row + 1) * own->pitch;
        for (size_t i = first; i < end && i < own->length; i++)
            out[i] = 0.0f;
    }
}
"""

PLANES = """
static void sum_planes_$BITS(float *memory, const struct sums *sums, const uint$BITS_t *places)
{
    const float *weights = sums->weights, *nearest = memory + sums->nearest;
    const size_t length = sums->out.length;
    for (uint32_t channel = 0; channel < sums->out.channels; channel++) {
        float *restrict out = memory + sums->out.place + (size_t)channel * sums->out.stride + sums->out.origin;
        size_t left = sums->counts[channel];
        fill(out, length, sums->bias[channel]);
        for (; left >= 4; left -= 4, places += 4, weights += 4) {
            const float *a = nearest + places[0], *b = nearest + places[1];
            const float *c = nearest + places[2], *d = nearest + places[3];
            const float p = weights[0], q = weights[1], r = weights[2], s = weights[3];
            for (size_t i = 0; i < length; i++)
                out[i] += p * a[i] + q * b[i] + r * c[i] + s * d[i];
        }
        for (; left > 0; left--, places++, weights++) {
            const float *a = nearest + places[0];
            const float p = weights[0];
            for (size_t i = 0; i < length; i++)
                out[i] += p * a[i];
        }
        finish(sums, channel, out);
    }
}
"""


PIECE, VECTOR, NARROWEST = 64, 16, 4
"""Numbers of a piece of a small plane at most, numbers that it is a multiple of, and of the last piece at least."""


def pieces(length: int) -> list[int]:
    """How many numbers of a small plane are summed up side by side; the last may reach beyond its end."""
    found: list[int] = []
    while length - sum(found) >= VECTOR:
        found.append(min(PIECE, (length - sum(found)) // VECTOR * VECTOR))
    rest = length - sum(found)
    return [*found, max(NARROWEST, 1 << (rest - 1).bit_length())] if rest else found


def small_planes(length: int, bits: int) -> tuple[str, str]:
    """The text and the name of the loop that sums up small planes, whose pieces compilers keep in registers."""
    name, sizes = f"sum_{length}_{bits}", pieces(length)
    firsts = [sum(sizes[:number]) for number in range(len(sizes))]
    every = list(enumerate(zip(sizes, firsts, strict=True)))
    last = len(sizes) - 1

    def loop(body: str, indent: int = 8) -> list[str]:
        """A loop over each piece."""
        space = " " * indent
        return [
            f"{space}for (size_t i = 0; i < {size}; i++)\n{space}    "
            + body.format(piece=f"piece_{number}[i]", at=_at(first))
            for number, (size, first) in every
        ]

    four = "{piece} += p * a[{at}] + q * b[{at}] + r * c[{at}] + s * d[{at}];"
    written = [
        f"        for (size_t i = 0; i < {size}; i++)\n            out[{_at(first)}] = piece_{number}[i];"
        for number, (size, first) in every[:last]
    ]
    lines = [
        f"static void {name}(float *memory, const struct sums *sums, const uint{bits}_t *places)",
        "{",
        "    const float *weights = sums->weights, *nearest = memory + sums->nearest;",
        "    for (uint32_t channel = 0; channel < sums->out.channels; channel++) {",
        "        float *out = memory + sums->out.place + (size_t)channel * sums->out.stride + sums->out.origin;",
        f"        float {', '.join(f'piece_{number}[{size}]' for number, (size, _) in every)};",
        "        size_t left = sums->counts[channel];",
        *loop("{piece} = sums->bias[channel];"),
        "        for (; left >= 4; left -= 4, places += 4, weights += 4) {",
        "            const float *a = nearest + places[0], *b = nearest + places[1];",
        "            const float *c = nearest + places[2], *d = nearest + places[3];",
        "            const float p = weights[0], q = weights[1], r = weights[2], s = weights[3];",
        *loop(four, 12),
        "        }",
        "        for (; left > 0; left--, places++, weights++) {",
        "            const float *a = nearest + places[0];",
        "            const float p = weights[0];",
        *loop("{piece} += p * a[{at}];", 12),
        "        }",
        *written,
        f"        for (size_t i = {firsts[last]}; i < sums->out.length; i++)",
        f"            out[i] = piece_{last}[i - {firsts[last]}];"
        if firsts[last]
        else f"            out[i] = piece_{last}[i];",
        "        finish(sums, channel, out);",
        "    }",
        "}",
        "",
    ]
    return "\n".join(lines), name


def _at(first: int) -> str:
    return f"i + {first}" if first else "i"


PIXELS = """
static void sum_pixels_$BITS(float *memory, const struct sums *sums, const uint$BITS_t *places)
{
    const float *weights = sums->weights, *nearest = memory + sums->nearest;
    float *out = memory + sums->out.place;
    for (uint32_t channel = 0; channel < sums->out.channels; channel++) {
        float total = sums->bias[channel];
        for (size_t left = sums->counts[channel]; left > 0; left--)
            total += *weights++ * nearest[*places++];
        out[channel] = total;
    }
    if (sums->function && !sums->parameters_of_channel)
        sums->function(out, sums->out.channels, sums->parameters);
    else if (sums->function)
        for (uint32_t channel = 0; channel < sums->out.channels; channel++)
            sums->function(out + channel, 1, sums->parameters + (size_t)channel * sums->parameters_of_channel);
}
"""

SCALE = """
/* Each plane at `sources` times a number of its own. */
static void scale(float *memory, const struct planes *planes, const uint32_t *sources, uint32_t gate)
{
    clear(memory, planes);
    for (uint32_t channel = 0; channel < planes->channels; channel++) {
        const float number = memory[gate + channel], *source = memory + sources[channel];
        float *restrict out = memory + planes->place + (size_t)channel * planes->stride + planes->origin;
        for (size_t row = 0; row < planes->height; row++)
            for (size_t column = 0; column < planes->width; column++)
                out[row * planes->pitch + column] = number * source[row * planes->pitch + column];
    }
}
"""

SLIDE = sliding(
    "slide",
    "float",
    "float *restrict out",
    begin="fill(out, own->width, windows->weights ? 0.0f : -INFINITY);",
    step="""
                    if (windows->weights)
                        for (int32_t i = first; i < end; i++)
                            out[i] += line[i * step + shift];
                    else
                        for (int32_t i = first; i < end; i++) {
                            const float value = line[i * step + shift];
                            out[i] = (value > out[i]) | (value != value) ? value : out[i];
                        }""",
    end="""
            if (windows->weights)
                for (int32_t i = 0; i < width; i++)
                    out[i] *= windows->weights[row * width + i];""",
)

COLLECT = """
static void collect(float *memory, const struct lists *lists)
{
    const struct planes *own = &lists->out;
    clear(memory, own);
    for (uint32_t channel = 0; channel < own->channels; channel++) {
        const float *source = memory + lists->sources[channel];
        const int32_t *table = lists->table;
        float *out = memory + own->place + (size_t)channel * own->stride + own->origin;
        for (size_t row = 0; row < own->height; row++)
            for (size_t column = 0; column < own->width; column++) {
                float total = lists->weights ? 0.0f : -INFINITY;
                for (uint32_t number = 0; number < lists->places; number++) {
                    const int32_t place = *table++;
                    if (place < 0)
                        continue;
                    if (lists->weights)
                        total += source[place];
                    else
                        total = (source[place] > total) | (source[place] != source[place]) ? source[place] : total;
                }
                if (lists->weights)
                    total *= lists->weights[row * own->width + column];
                out[row * own->pitch + column] = total;
            }
    }
}
"""

SCALED = "(float)*pixels++ * factors[channel] + summands[channel]"
CENTRED = "(*pixels++ - shifts[channel]) / units[channel]"
"""What reads a pixel, and a number, whose mean may be many times its deviation."""

READ = """
#define READ(NAME, TYPE) \\
    static void NAME(float *memory, const TYPE *pixels) \\
    { \\
        clear(memory, &images); \\
        for (size_t channel = 0; channel < images.channels; channel++) { \\
            float *out = memory + images.place + channel * images.stride + images.origin; \\
            for (size_t row = 0; row < images.height; row++) \\
                for (size_t column = 0; column < images.width; column++) \\
                    out[row * images.pitch + column] = $VALUE; \\
        } \\
    }
"""

READ_BYTES, READ_FLOATS = "READ(read_bytes, uint8_t)", "READ(read_floats, float)"
