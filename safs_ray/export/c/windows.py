"""Loops over windows, of floats or of integers.

For windows that never reach beyond a plane there is one for each kind of window, which asks nothing of a pixel.
"""

from __future__ import annotations

from typing import NamedTuple

from safs_ray.engine.layout import Cells
from safs_ray.sparse.windows import Window

MOST = 16
"""Places of such a window at most."""

INSIDE = """
static void $NAME($NUMBER *memory, const struct windows *windows)
{
    const struct planes *own = &windows->out;
    const size_t pitch = (size_t)windows->source_pitch;
    clear(memory, own);
    for (uint32_t channel = 0; channel < own->channels; channel++) {
        const $NUMBER *source = memory + windows->sources[channel];
        $NUMBER *plane = memory + own->place + (size_t)channel * own->stride + own->origin;
        for (size_t row = 0; row < own->height; row++) {
            const $NUMBER *line = source + $DOWN * row * pitch;
            $NUMBER *restrict out = plane + row * own->pitch;
            for (size_t i = 0; i < own->width; i++) {
                const $NUMBER *seen = line + $RIGHT * i;
                $SUM value = seen[0];
$STEPS
                out[i] = $VALUE;
            }
        }
    }
}
"""


SLIDE = """
static void $NAME($NUMBER *memory, const struct windows *windows)
{
    const struct planes *own = &windows->out;
    const int32_t height = (int32_t)own->height, width = (int32_t)own->width;
    clear(memory, own);
    for (uint32_t channel = 0; channel < own->channels; channel++) {
        const $NUMBER *source = memory + windows->sources[channel];
        $NUMBER *plane = memory + own->place + (size_t)channel * own->stride + own->origin;
        for (int32_t row = 0; row < height; row++) {
            $OUT = plane + (size_t)row * own->pitch;
            $BEGIN
            for (int32_t down = 0; down < windows->kernel[0]; down++) {
                const int32_t seen = row * windows->step[0] - windows->padding[0] + down * windows->dilation[0];
                if (seen < 0 || seen >= windows->source_height)
                    continue;
                for (int32_t right = 0; right < windows->kernel[1]; right++) {
                    const int32_t step = windows->step[1];
                    const int32_t shift = right * windows->dilation[1] - windows->padding[1];
                    const int32_t last = windows->source_width - 1 - shift;
                    const int32_t first = shift < 0 ? (step - 1 - shift) / step : 0;
                    const int32_t end = last < 0 ? 0 : last / step + 1 < width ? last / step + 1 : width;
                    const $NUMBER *line = source + (ptrdiff_t)seen * windows->source_pitch;$STEP
                }
            }$END
        }
    }
}
"""


def sliding(name: str, number: str, out: str, begin: str, step: str, end: str = "") -> str:
    """The text of a loop over any windows, which looks for each whether it reaches beyond its plane.

    Args:
        number: the type of one.
        out: declares a row of pixels.
        begin: before its windows are seen.
        step: takes in the numbers ``line[i * step + shift]`` of the pixels from ``first`` to ``end``.
        end: after all.
    """
    text, marks = SLIDE, {"$NAME": name, "$NUMBER": number, "$OUT": out, "$BEGIN": begin, "$STEP": step, "$END": end}
    for mark, written in marks.items():
        text = text.replace(mark, written)
    return text


class Kind(NamedTuple):
    """How numbers are written.

    Attributes:
        number, sum: the types of one, and of a sum or the largest of them.
        larger: the larger of ``value`` and ``other``.
        mean: a pixel, of the sum ``value`` of ``$PLACES`` numbers.
        largest: a pixel, of the largest ``value``.
    """

    number: str
    sum: str
    larger: str
    mean: str
    largest: str


FLOATS = Kind(
    "float",
    "float",
    "(other > value) | (other != other) ? other : value",
    "value * windows->weights[row * own->width + i]",
    "value",
)

INTEGERS = Kind(
    "int8_t",
    "int32_t",
    "other > value ? other : value",
    "(int8_t)(level(value - $PLACES * windows->zero, windows->factors[row * own->width + i], windows->shift,\n"
    "                                        windows->first) - 128)",
    "(int8_t)value",
)


def lies_inside(window: Window, own: Cells, source: Cells) -> bool:
    """Whether there is a loop of its own for the windows of a plane over another."""
    places = window.kernel[0] * window.kernel[1]
    return places <= MOST and window.lies_inside((own.height, own.width), (source.height, source.width))


def inside(window: Window, is_largest: bool, kind: Kind) -> tuple[str, str]:
    """The text and the name of the loop over windows of a kind, none of which reaches beyond its plane."""
    (down, right), (below, beside) = window.kernel, window.dilation
    places = [(row * below, column * beside) for row in range(down) for column in range(right)]
    name = "_".join(["largest" if is_largest else "mean", *(str(each) for pair in window for each in pair)])
    steps = [_step(*place, is_largest, kind) for place in places[1:]]
    value = kind.largest if is_largest else kind.mean
    values = {
        "$NAME": name.replace("-", "n"), "$NUMBER": kind.number, "$SUM": kind.sum, "$DOWN": str(window.stride[0]),
        "$RIGHT": str(window.stride[1]), "$STEPS\n": "".join(steps), "$VALUE": value, "$PLACES": str(len(places)),
    }  # fmt: skip
    text = INSIDE
    for mark, written in values.items():
        text = text.replace(mark, written)
    return text, values["$NAME"]


def _step(row: int, column: int, is_largest: bool, kind: Kind) -> str:
    """Take in one more place."""
    place = " + ".join(filter(None, (f"{row} * pitch" if row else "", str(column) if column else ""))) or "0"
    indent = " " * 16
    if not is_largest:
        return f"{indent}value += seen[{place}];\n"
    declared = f"{indent}{{\n{indent}    const {kind.sum} other = seen[{place}];\n"
    return f"{declared}{indent}    value = {kind.larger};\n{indent}}}\n"
