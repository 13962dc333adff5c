"""Compiled loops over nonzeros. The images of a batch are the innermost axis of every array.

Arrays of neurons are (blocks, rows, LANES): a block holds LANES images, a row is one neuron. So a nonzero weight is
one multiply-add of vectors, kept in registers over a whole row's nonzeros. Lanes beyond the last image hold finite
values that nothing reads, and gradients of 0.

Compiled by numba on first use and cached beside this file, or in the user's cache folder. Every sum has one order,
so that results are the same bits from run to run.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from safs_ray.sparse.lanes import (
    LANES,
    Doubles,
    Floats,
    Indices,
    compiled,
    entry,
    larger,
    load,
    minus,
    plus,
    plus_product,
    spread,
    store,
    sum_of,
    times,
    where_equal,
)


@compiled
def combine(
    begin: int,
    end: int,
    out: Floats,
    source: Floats,
    values: Floats,
    rows: Indices,
    starts: Indices,
    nonzeros: Indices,
) -> None:
    """out[row] = values[bias] + sum of values[weight] * source[base + offset], for ``rows[begin:end]``.

    Args:
        out: (blocks, rows, LANES), written.
        source: (blocks, other rows, LANES).
        rows: (rows, 4), in the order of computation: the row, the number of its list of nonzeros, the base from which
            its offsets count, and the index of its bias, -1 for none. Rows may share a list.
        starts: list i is ``nonzeros[starts[i] : starts[i + 1]]``.
        nonzeros: (nonzeros, 2): offset of the row that is read, index of the weight.
    """
    nothing = values.dtype.type(0)
    for block in range(out.shape[0]):
        first, first_source = block * out.shape[1], block * source.shape[1]
        i = begin
        while i < end:
            number, base, bias = rows[i, 1], first_source + rows[i, 2], rows[i, 3]
            total = spread(values[bias] if bias >= 0 else nothing)
            # Two neighbours that share a list go through it together: two sums are under way at a time.
            if i + 1 < end and rows[i + 1, 1] == number and rows[i + 1, 3] == bias:
                other_base, other = first_source + rows[i + 1, 2], total
                for j in range(entry(starts, number), entry(starts, number + 1)):
                    offset, weight = entry(nonzeros, 2 * j), spread(entry(values, entry(nonzeros, 2 * j + 1)))
                    total = plus_product(total, weight, load(source, base + offset))
                    other = plus_product(other, weight, load(source, other_base + offset))
                store(out, first + rows[i, 0], total)
                i, total = i + 1, other
            else:
                for j in range(entry(starts, number), entry(starts, number + 1)):
                    offset, weight = entry(nonzeros, 2 * j), spread(entry(values, entry(nonzeros, 2 * j + 1)))
                    total = plus_product(total, weight, load(source, base + offset))
            store(out, first + rows[i, 0], total)
            i += 1


@compiled
def correlate(
    begin: int,
    end: int,
    out: Floats,
    gradient: Floats,
    source: Floats,
    weights: Indices,
    bands: int,
    together: int,
    starts: Indices,
    pairs: Indices,
) -> None:
    """out[weight] += sum over its pairs, and over images, of gradient[row] * source[row].

    Args:
        begin, end: of ``weights``.
        out: (weights,), added to.
        gradient, source: (blocks, rows, LANES).
        weights: (weights, 4), in the order of computation: the number of a weight's list of pairs, the bases from
            which the two rows of a pair count, and its place in ``out``. Weights may share a list.
        bands: into which every list is cut; all weights finish one before the next, so what they share stays cached.
            Band j of list i is ``starts[i * bands + j]`` to the next.
        together: blocks that a weight's pairs go through before the next weight.
        pairs: (pairs, 2): offsets of the gradient's and of the source's row.
    """
    nothing = out.dtype.type(0)
    for first in range(0, gradient.shape[0], together):
        last = min(first + together, gradient.shape[0])
        for band in range(bands):
            i = begin
            while i < end:
                number, base, source_base = weights[i, 0] * bands + band, weights[i, 1], weights[i, 2]
                total = spread(nothing)
                # Two weights of an output and a place multiply the same rows of the gradient.
                if i + 1 < end and weights[i + 1, 0] == weights[i, 0] and weights[i + 1, 1] == base:
                    other_base, other = weights[i + 1, 2], spread(nothing)
                    for block in range(first, last):
                        row, source_row = block * gradient.shape[1] + base, block * source.shape[1]
                        for j in range(entry(starts, number), entry(starts, number + 1)):
                            given = load(gradient, row + entry(pairs, 2 * j))
                            place = source_row + entry(pairs, 2 * j + 1)
                            total = plus_product(total, given, load(source, source_base + place))
                            other = plus_product(other, given, load(source, other_base + place))
                    out[weights[i, 3]] += sum_of(total)
                    i, total = i + 1, other
                else:
                    for block in range(first, last):
                        row, source_row = block * gradient.shape[1] + base, block * source.shape[1] + source_base
                        for j in range(entry(starts, number), entry(starts, number + 1)):
                            given = load(gradient, row + entry(pairs, 2 * j))
                            total = plus_product(total, given, load(source, source_row + entry(pairs, 2 * j + 1)))
                out[weights[i, 3]] += sum_of(total)
                i += 1


@compiled
def add_up(begin: int, end: int, out: Floats, gradient: Floats, starts: Indices, rows: Indices) -> None:
    """out[i] += sum over images of the gradient's rows ``rows[starts[i] : starts[i + 1]]``, for i in ``begin:end``."""
    nothing = out.dtype.type(0)
    for block in range(gradient.shape[0]):
        first = block * gradient.shape[1]
        for i in range(begin, end):
            total = spread(nothing)
            for j in range(entry(starts, i), entry(starts, i + 1)):
                total = plus(total, load(gradient, first + entry(rows, j)))
            out[i] += sum_of(total)


@compiled
def pool(begin: int, end: int, out: Floats, source: Floats, windows: Indices) -> None:
    """out[row] = the largest of the source's rows ``windows[row]``, NaN before all, for the rows ``begin:end``.

    Args:
        out: (blocks, rows, LANES), written.
        windows: (rows, places); a place outside the image repeats one inside.
    """
    places = windows.shape[1]
    for block in range(out.shape[0]):
        first, first_source = block * out.shape[1], block * source.shape[1]
        for row in range(begin, end):
            found = load(source, first_source + entry(windows, row * places))
            for j in range(row * places + 1, (row + 1) * places):
                found = larger(found, load(source, first_source + entry(windows, j)))
            store(out, first + row, found)


@compiled
def unpool(out: Floats, gradient: Floats, pooled: Floats, source: Floats, windows: Indices) -> None:
    """Add the gradient of every pooled row to the first row of its window that was the largest.

    Args:
        out: (blocks, rows of the source, LANES), zeros at first.
        pooled, source, windows: what :func:`pool` made and took.
    """
    places = windows.shape[1]
    for block in range(gradient.shape[0]):
        first, first_source = block * gradient.shape[1], block * source.shape[1]
        for row in range(gradient.shape[1]):
            left, largest = load(gradient, first + row), load(pooled, first + row)
            for j in range(row * places, (row + 1) * places):
                place = first_source + entry(windows, j)
                given = where_equal(largest, load(source, place), left)
                left = minus(left, given)
                store(out, place, plus(load(out, place), given))


@compiled
def unpool_apart(
    begin: int, end: int, out: Floats, gradient: Floats, pooled: Floats, source: Floats, windows: Indices
) -> None:
    """The same where every row of the source is in one window, once: so each is written, and ``out`` needs no zeros.

    Args:
        begin, end: of the pooled rows.
    """
    places = windows.shape[1]
    for block in range(gradient.shape[0]):
        first, first_source = block * gradient.shape[1], block * source.shape[1]
        for row in range(begin, end):
            left, largest = load(gradient, first + row), load(pooled, first + row)
            for j in range(row * places, (row + 1) * places):
                place = first_source + entry(windows, j)
                given = where_equal(largest, load(source, place), left)
                left = minus(left, given)
                store(out, place, given)


@compiled
def moments(
    begin: int,
    end: int,
    mean: Doubles,
    deviation: Doubles,
    seen: float,
    source: Floats,
    known: Floats,
    pixels: int,
) -> None:
    """Take images into the mean and the summed squared deviation of channels, over pixels and images.

    Each block's own are merged one by one (Chan et al. 1979): no large numbers are subtracted.

    Args:
        begin, end: of the channels.
        mean, deviation: (channels,), of what was seen before; written.
        seen: pixels of a channel seen before, 0 at first.
        source: (blocks, channels * pixels, LANES).
        known: (blocks, LANES), 1 where a lane holds an image, else 0.
    """
    nothing = source.dtype.type(0)
    for block in range(source.shape[0]):
        lanes = load(known, block)
        count = sum_of(lanes) * pixels
        for channel in range(begin, end):
            first = block * source.shape[1] + channel * pixels
            total = spread(nothing)
            for row in range(first, first + pixels):
                total = plus_product(total, lanes, load(source, row))
            own = sum_of(total) / count
            centre, total = spread(source.dtype.type(own)), spread(nothing)
            for row in range(first, first + pixels):
                distance = minus(load(source, row), centre)
                total = plus_product(total, times(lanes, distance), distance)
            step = own - mean[channel]
            mean[channel] += step * count / (seen + count)
            deviation[channel] += sum_of(total) + step * step * seen * count / (seen + count)
        seen += count


@compiled
def mix(
    begin: int,
    end: int,
    out: Floats,
    gradient: Floats,
    source: Floats,
    known: Floats,
    factors: Floats,
    pixels: int,
) -> None:
    """out = gradient * a + source * b + c by channel, and 0 in the lanes that hold no image; out may be the gradient.

    Args:
        begin, end: of the channels.
        factors: (3, channels): a, b and c. The gradient is 0 in lanes that hold no image.
    """
    for block in range(source.shape[0]):
        lanes = load(known, block)
        for channel in range(begin, end):
            first = block * source.shape[1] + channel * pixels
            a, b, c = spread(factors[0, channel]), spread(factors[1, channel]), spread(factors[2, channel])
            for row in range(first, first + pixels):
                rest = times(lanes, plus_product(c, b, load(source, row)))
                store(out, row, plus_product(rest, a, load(gradient, row)))


@compiled
def gather(out: Floats, images: npt.NDArray[Any], levels: Floats, channels: Indices, pixels: Indices) -> None:
    """The rows of pixels of images; lanes beyond the last image become 0.

    Args:
        out: (blocks, rows, LANES), written.
        images: (N, C * H * W), bytes, or numbers that are normalised.
        levels: (C, 256), what a channel's 256 bytes become; (0, 256) for numbers.
        channels, pixels: of every row; ``pixels`` counts through all channels.
    """
    count = images.shape[0]
    for block in range(out.shape[0]):
        known = min(LANES, count - block * LANES)
        for row in range(out.shape[1]):
            channel, pixel = channels[row], pixels[row]
            if len(levels):
                for lane in range(known):
                    out[block, row, lane] = levels[channel, int(images[block * LANES + lane, pixel])]
            else:
                for lane in range(known):
                    out[block, row, lane] = images[block * LANES + lane, pixel]
            for lane in range(known, LANES):
                out[block, row, lane] = 0
