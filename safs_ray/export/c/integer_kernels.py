"""The loops of a network in C, over 8-bit integers.

A plane is summed up by pieces of :data:`PIECE` numbers of 32 bits, for four terms at a time, so that little memory is
needed beside the planes. Nothing is shifted that is negative, and no sum has more than 31 bits.
"""

from __future__ import annotations

from safs_ray.export.c.windows import sliding

PIECE = 64
"""Numbers of a piece."""

STRUCTURES = """
/* Planes lie behind each other, `stride` numbers apart, each with `origin` numbers before its first pixel that are
   `zero`, which stands for 0. Its rows are `pitch` apart; `length` numbers lie from its first pixel to its last. */
struct planes {
    network_number place, stride, origin, channels, height, width, pitch, length;
    int8_t zero;
};
"""

SUMS = """
/* Each plane is a bias and planes that begin at `nearest + places[term]`, times weights; then as levels from 0 to 255,
   and what `function` has for them. */
struct sums {
    struct planes out;
    uint8_t shift;
    network_number nearest;
    const network_count *counts;
    const int8_t *weights;
    const int32_t *bias;
    const uint16_t *factors;
    const int8_t *function;
};
"""

WINDOWS = """
/* Each pixel is the largest number, or the sum times a factor, of a window of the plane that begins at `sources`. */
struct windows {
    struct planes out;
    int8_t zero;
    uint8_t shift, first;
    const network_number *sources;
    const uint16_t *factors;
    int32_t source_height, source_width, source_pitch;
    int32_t kernel[2], step[2], padding[2], dilation[2];
};
"""

LISTS = """
/* Each pixel is the largest number, or the sum times a factor, of `places` numbers of the plane at `sources`. */
struct lists {
    struct planes out;
    int8_t zero;
    uint8_t shift, first;
    const network_number *sources;
    const uint16_t *factors;
    const int32_t *table;
    uint32_t places;
};
"""

PRODUCTS = """
/* Each plane at `sources` times a number of its own. */
struct products {
    struct planes out;
    int8_t zero, gate_zero;
    uint8_t shift, first;
    uint16_t factor;
    network_number gate;
    const network_number *sources;
};
"""

FILL = """
static void fill(int8_t *numbers, size_t count, int8_t number)
{
    for (size_t i = 0; i < count; i++)
        numbers[i] = number;
}
"""

CLEAR = """
/* Make all planes zero. */
static void clear(int8_t *memory, const struct planes *planes)
{
    fill(memory + planes->place, (size_t)planes->channels * planes->stride + planes->origin, planes->zero);
}
"""

LEVEL = """
/* The level of a sum, from 0 to 255. */
static int32_t level(int32_t sum, uint16_t factor, uint8_t shift, uint8_t first)
{
    const int64_t scaled = (int64_t)sum * factor + ((2 * (int64_t)first + 1) << (shift - 1));
    const int64_t found = scaled < 0 ? 0 : scaled >> shift;
    return found > 255 ? 255 : (int32_t)found;
}
"""

NUMBER = """
/* The number that a sum leads to. */
static int8_t number(const struct sums *sums, uint32_t channel, int32_t sum)
{
    const int32_t found = level(sum, sums->factors[channel], sums->shift, 0);
    return sums->function ? sums->function[found] : (int8_t)(found - 128);
}
"""

FINISH = """
/* Make zero what surrounds the pixels of a plane. */
static void finish(const struct planes *own, int8_t *out)
{
    fill(out - own->origin, own->origin, own->zero);
    for (size_t row = 1; row < own->height; row++)
        fill(out + row * own->pitch - (own->pitch - own->width), own->pitch - own->width, own->zero);
    fill(out + own->length, own->stride - own->length, own->zero);
}
"""

PLANES = """
static void sum_planes_$BITS(int8_t *memory, const struct sums *sums, const uint$BITS_t *places)
{
    enum { PIECE = $PIECE };
    const int8_t *weights = sums->weights, *nearest = memory + sums->nearest;
    const size_t length = sums->out.length;
    for (uint32_t channel = 0; channel < sums->out.channels; channel++) {
        int8_t *out = memory + sums->out.place + (size_t)channel * sums->out.stride + sums->out.origin;
        const size_t count = sums->counts[channel];
        for (size_t first = 0; first < length; first += PIECE) {
            int32_t piece[PIECE];
            const size_t size = length - first < PIECE ? length - first : PIECE;
            size_t term = 0;
            for (size_t i = 0; i < size; i++)
                piece[i] = sums->bias[channel];
            for (; term + 4 <= count; term += 4) {
                const int8_t *a = nearest + places[term] + first, *b = nearest + places[term + 1] + first;
                const int8_t *c = nearest + places[term + 2] + first, *d = nearest + places[term + 3] + first;
                const int32_t p = weights[term], q = weights[term + 1], r = weights[term + 2], s = weights[term + 3];
                for (size_t i = 0; i < size; i++)
                    piece[i] += p * a[i] + q * b[i] + r * c[i] + s * d[i];
            }
            for (; term < count; term++) {
                const int8_t *a = nearest + places[term] + first;
                const int32_t p = weights[term];
                for (size_t i = 0; i < size; i++)
                    piece[i] += p * a[i];
            }
            for (size_t i = 0; i < size; i++)
                out[first + i] = number(sums, channel, piece[i]);
        }
        places += count;
        weights += count;
        finish(&sums->out, out);
    }
}
"""

PIXEL = """
/* The sum of a plane of one pixel. */
static int32_t sum_pixel_$BITS(const int8_t *nearest, const int8_t *weights, const uint$BITS_t *places, size_t count,
                               int32_t sum)
{
    for (size_t term = 0; term < count; term++)
        sum += weights[term] * nearest[places[term]];
    return sum;
}
"""

PIXELS = """
static void sum_pixels_$BITS(int8_t *memory, const struct sums *sums, const uint$BITS_t *places)
{
    const int8_t *weights = sums->weights, *nearest = memory + sums->nearest;
    int8_t *out = memory + sums->out.place;
    for (uint32_t channel = 0; channel < sums->out.channels; channel++) {
        const size_t count = sums->counts[channel];
        out[channel] = number(sums, channel, sum_pixel_$BITS(nearest, weights, places, count, sums->bias[channel]));
        places += count;
        weights += count;
    }
}
"""

LOGITS = """
static void sum_logits_$BITS(const int8_t *memory, const struct sums *sums, const uint$BITS_t *places, int32_t *logits)
{
    const int8_t *weights = sums->weights, *nearest = memory + sums->nearest;
    for (uint32_t channel = 0; channel < sums->out.channels; channel++) {
        const size_t count = sums->counts[channel];
        const int32_t sum = sum_pixel_$BITS(nearest, weights, places, count, sums->bias[channel]);
        logits[channel] = (int32_t)((int64_t)sum * sums->factors[channel] / 32768);
        places += count;
        weights += count;
    }
}
"""

SCALE = """
static void scale(int8_t *memory, const struct products *products)
{
    const struct planes *own = &products->out;
    clear(memory, own);
    for (uint32_t channel = 0; channel < own->channels; channel++) {
        const int32_t gate = memory[products->gate + channel] - products->gate_zero;
        const int8_t *source = memory + products->sources[channel];
        int8_t *out = memory + own->place + (size_t)channel * own->stride + own->origin;
        for (size_t row = 0; row < own->height; row++)
            for (size_t i = row * own->pitch; i < row * own->pitch + own->width; i++)
                out[i] = (int8_t)(level(gate * (source[i] - products->zero), products->factor, products->shift,
                                        products->first) - 128);
    }
}
"""

SLIDE_LARGEST = sliding(
    "slide_largest",
    "int8_t",
    "int8_t *out",
    begin="fill(out, own->width, -128);",
    step="""
                    for (int32_t i = first; i < end; i++)
                        out[i] = line[i * step + shift] > out[i] ? line[i * step + shift] : out[i];""",
)

SLIDE_MEAN = sliding(
    "slide_mean",
    "int8_t",
    "int8_t *out",
    begin="int32_t sums[WIDEST] = {0};",
    step="""
                    for (int32_t i = first; i < end; i++)
                        sums[i] += line[i * step + shift] - windows->zero;""",
    end="""
            for (int32_t i = 0; i < width; i++)
                out[i] = (int8_t)(level(sums[i], """
    "windows->factors[row * width + i], windows->shift, windows->first) - 128);",
)

SLIDES = {True: (SLIDE_LARGEST, "slide_largest"), False: (SLIDE_MEAN, "slide_mean")}
"""The loop over any windows, and its name, by whether it is for the largest numbers."""

COLLECT = """
static void collect(int8_t *memory, const struct lists *lists)
{
    const struct planes *own = &lists->out;
    clear(memory, own);
    for (uint32_t channel = 0; channel < own->channels; channel++) {
        const int8_t *source = memory + lists->sources[channel];
        const int32_t *table = lists->table;
        int8_t *out = memory + own->place + (size_t)channel * own->stride + own->origin;
        for (size_t row = 0; row < own->height; row++)
            for (size_t column = 0; column < own->width; column++) {
                int32_t sum = 0, largest = -128;
                for (uint32_t place = 0; place < lists->places; place++, table++)
                    if (*table >= 0) {
                        sum += source[*table] - lists->zero;
                        largest = source[*table] > largest ? source[*table] : largest;
                    }
                if (lists->factors)
                    largest = level(sum, lists->factors[row * own->width + column], lists->shift, lists->first) - 128;
                out[row * own->pitch + column] = (int8_t)largest;
            }
    }
}
"""

READ = """
static void read_pixels(int8_t *memory, const uint8_t *pixels)
{
    clear(memory, &images);
    for (size_t channel = 0; channel < images.channels; channel++) {
        int8_t *out = memory + images.place + channel * images.stride + images.origin;
        for (size_t row = 0; row < images.height; row++)
            for (size_t column = 0; column < images.width; column++)
                out[row * images.pitch + column] = (int8_t)($LEVEL + summands[channel]);
    }
}
"""
