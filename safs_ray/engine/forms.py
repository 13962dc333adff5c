"""Sums of terms that are no planes yet: each channel is a bias and shifted planes times weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from safs_ray.engine.passes import Numbers, Places, Weights
from safs_ray.sparse.graph import Affine
from safs_ray.sparse.removal import input_channels
from safs_ray.sparse.windows import Pair, Table, Window, window


class View(NamedTuple):
    """Where a step's value lies.

    Attributes:
        places: of every channel, its plane, or the pixel of one that it is; a value of -1 where it is not computed.
        height, width: of each channel.
    """

    places: Places
    height: int
    width: int


@dataclass(frozen=True)
class Form:
    """Some channels of a step as sums of terms; see :class:`~safs_ray.engine.passes.Weigh`.

    Attributes:
        height, width: of each channel.
        stride: rows and columns from what a pixel reads to what the next one reads.
    """

    height: int
    width: int
    starts: Numbers
    terms: Places
    weights: Weights
    bias: Weights
    stride: Pair = (1, 1)


def identity(view: View, channels: Numbers) -> Form:
    """Channels as they are."""
    count = len(channels)
    starts = np.arange(count + 1)
    return Form(view.height, view.width, starts, view.places[channels], np.ones(count), np.zeros(count))


def rescaled(form: Form, factor: Weights, summand: Weights) -> Form:
    """Each channel times its factor, and its summand added."""
    weights = form.weights * np.repeat(factor, np.diff(form.starts))
    return replace(form, weights=weights, bias=form.bias * factor + summand)


def added(one: Form, other: Form) -> Form:
    """The sum of two forms of the same channels and a stride of 1."""
    rows = np.concatenate([np.repeat(np.arange(len(each.bias)), np.diff(each.starts)) for each in (one, other)])
    order = np.argsort(rows, kind="stable")
    terms = Places(*(np.concatenate(pair)[order] for pair in zip(one.terms.arrays, other.terms.arrays, strict=True)))
    weights = np.concatenate([one.weights, other.weights])[order]
    return Form(one.height, one.width, one.starts + other.starts, terms, weights, one.bias + other.bias)


def affine(
    affine: Affine, weight: npt.NDArray[np.float32], bias: Weights, view: View, size: Pair, rows: Numbers
) -> Form:
    """Channels ``rows`` of a convolution or linear layer, by its nonzero weights.

    Args:
        weight: (outputs, inputs / groups, places).
        bias: (outputs,).
        size: height and width of each channel.
    """
    slid = affine.window or window(1, 1, 0)
    row, column = (each.ravel() for each in _shifts(slid))
    seen = _seen(slid, row, column, view, size)
    output, channel, place = np.nonzero((weight[rows] != 0) & seen)
    read = view.places[input_channels(affine, weight.shape)[rows][output, channel]]
    terms = replace(read, row=read.row + row[place], column=read.column + column[place])
    starts = np.searchsorted(output, np.arange(len(rows) + 1))
    stride = tuple(step if extent > 1 else 1 for step, extent in zip(slid.stride, size, strict=True))
    found = weight[rows][output, channel, place].astype(np.float64)
    return Form(*size, starts, terms, found, bias[rows], (stride[0], stride[1]))


def _shifts(slid: Window) -> tuple[Numbers, Numbers]:
    """(rows, columns) of a kernel's places: how far each lies from the first pixel."""
    row, column = (
        np.arange(kernel) * dilation - padding
        for kernel, dilation, padding in zip(slid.kernel, slid.dilation, slid.padding, strict=True)
    )
    return np.broadcast_arrays(row[:, None], column)  # type: ignore[return-value]


def _seen(slid: Window, row: Numbers, column: Numbers, view: View, size: Pair) -> npt.NDArray[np.bool_]:
    """(places,) of a kernel: whether any of its pixels lies inside the planes."""
    inside = np.ones(len(row), np.bool_)
    for shift, step, given, taken in zip((row, column), slid.stride, size, (view.height, view.width), strict=True):
        pixels = shift[:, None] + np.arange(given) * step
        inside &= ((pixels >= 0) & (pixels < taken)).any(1)
    return inside


def averaged(view: View, table: Table, weight: float, rows: Numbers) -> Form:
    """The weighted sum of the pixels that a table of one row lists."""
    pixels = table[0][table[0] >= 0]
    read = view.places[np.repeat(rows, len(pixels))]
    row, column = (np.tile(each, len(rows)) for each in np.divmod(pixels, view.width))
    terms = replace(read, row=read.row + row, column=read.column + column)
    starts = np.arange(len(rows) + 1) * len(pixels)
    return Form(1, 1, starts, terms, np.full(len(terms), weight), np.zeros(len(rows)))


def flattened(view: View) -> View:
    """Every pixel as a channel of its own."""
    row, column = np.divmod(np.arange(view.height * view.width), view.width)
    channel = np.repeat(np.arange(len(view.places)), len(row))
    read, times = view.places[channel], len(view.places)
    return View(replace(read, row=read.row + np.tile(row, times), column=read.column + np.tile(column, times)), 1, 1)


def joined(views: Sequence[View]) -> View:
    """The channels of several views."""
    arrays = zip(*(view.places.arrays for view in views), strict=True)
    return View(Places(*map(np.concatenate, arrays)), views[0].height, views[0].width)
