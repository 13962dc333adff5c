"""Layers over live neurons, forward and backward, and the autograd function that runs them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from safs_ray.sparse.kernels import add_up, combine, correlate, pool, unpool, unpool_apart
from safs_ray.sparse.lanes import LANES, Floats, Indices


class Layer(Protocol):
    """Maps an array (blocks, rows, LANES) to another; ``values`` are its own weights and biases, (count,)."""

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, Any]:
        """The layer's value and what its backward needs besides its arguments: an array like it, or None."""

    def backward(
        self, gradient: Floats, source: Floats, memory: Any, values: Floats, wanted: bool
    ) -> tuple[Floats | None, Floats | None]:
        """The gradients of ``source``, where wanted, and of ``values``, where it has any."""


Made = TypeVar("Made")

_BUSY = threading.local()
"""Whether this thread goes through pieces beside others, so that there are none to share a piece with."""


def side_by_side(make: Callable[[int], Made], count: int) -> list[Made]:
    """What a function makes of each piece of a batch, by its number: by as many threads as torch may use.

    Pieces are found one by one, so that each reads and writes what is its own alone, and has the same bits whichever
    thread makes it. Where there are fewer than threads, all threads :func:`share` one after the other.
    """
    threads = torch.get_num_threads()
    if threads == 1 or count < threads:
        return [make(number) for number in range(count)]

    def makes(first: int) -> list[Made]:
        _BUSY.now = True
        try:
            return [make(number) for number in range(first, count, threads)]
        finally:
            _BUSY.now = False

    parts = [_workers(threads - 1).submit(makes, first) for first in range(1, threads)]
    made = [makes(0), *(part.result() for part in parts)]
    return [made[number % threads][number // threads] for number in range(count)]


SHARED = 1 << 20
"""Numbers in an array from which on work on it is shared among threads."""


def share(kernel: Callable[..., None], count: int, size: int, *arguments: object) -> None:
    """Run ``kernel(begin, end, *arguments)`` over 0 to ``count``, in parts for as many threads as torch may use.

    What a part writes is its own and summed in the kernel's order: the bits are the same for any number of threads.
    """
    threads = torch.get_num_threads() if size >= SHARED and not getattr(_BUSY, "now", False) else 1
    if threads == 1:
        kernel(0, count, *arguments)
        return
    first, *others = pairwise(count * part // threads for part in range(threads + 1))
    parts = [_workers(threads - 1).submit(kernel, begin, end, *arguments) for begin, end in others]
    kernel(*first, *arguments)
    for part in parts:
        part.result()


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.cache_clear)  # a fork has none of its parent's threads


@dataclass(frozen=True)
class Combination:
    """Every row of a result as a weighted sum of rows: what :func:`kernels.combine` runs over."""

    rows: Indices
    starts: Indices
    nonzeros: Indices

    @property
    def uses(self) -> int:
        """How often a nonzero is used for one image."""
        return int(np.diff(self.starts)[self.rows[:, 1]].sum())

    def __call__(self, source: Floats, values: Floats) -> Floats:
        out = empty(len(source), len(self.rows), values.dtype)
        share(combine, len(self.rows), out.size, out, source, values, self.rows, self.starts, self.nonzeros)
        return out


@dataclass(frozen=True)
class Correlation:
    """Every weight's gradient as a sum of products of rows: what :func:`kernels.correlate` runs over."""

    weights: Indices
    bands: int
    starts: Indices
    pairs: Indices

    def __call__(self, out: Floats, gradient: Floats, source: Floats) -> None:
        # Short lists go through all images at once: a vector's sum costs more than a few products.
        together = len(gradient) if len(self.pairs) < 4 * len(self.starts) else 1
        arguments = self.weights, self.bands, max(1, together), self.starts, self.pairs
        share(correlate, len(self.weights), gradient.size, out, gradient, source, *arguments)


@dataclass(frozen=True)
class Linear:
    """A convolution or linear layer over the nonzeros of its weight, with a bias.

    Its values are the weights that are left and then the biases that are left.
    """

    ahead: Combination
    back: Combination
    pairs: Correlation
    bias_starts: Indices
    bias_rows: Indices

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, None]:
        return self.ahead(source, values), None

    def backward(
        self, gradient: Floats, source: Floats, memory: None, values: Floats, wanted: bool
    ) -> tuple[Floats | None, Floats]:
        return self.pulled(gradient, source, values, wanted, biases=True)

    def pulled(
        self, gradient: Floats, source: Floats, values: Floats, wanted: bool, biases: bool
    ) -> tuple[Floats | None, Floats]:
        """The gradients of the source, where wanted, and of the values; those of the biases, where they are, else 0."""
        found = np.zeros_like(values)
        self.pairs(found[: len(self.pairs.weights)], gradient, source)
        if biases:
            own = found[len(self.pairs.weights) :]
            share(add_up, len(own), gradient.size, own, gradient, self.bias_starts, self.bias_rows)
        return self.back(gradient, values) if wanted else None, found


@dataclass(frozen=True)
class ConstantSums:
    """Weighted sums whose weights are not learned: average pooling."""

    ahead: Combination
    back: Combination
    weights: npt.NDArray[np.float64]

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, None]:
        return self.ahead(source, self.weights.astype(source.dtype)), None

    def backward(
        self, gradient: Floats, source: Floats, memory: None, values: Floats, wanted: bool
    ) -> tuple[Floats | None, None]:
        return self.back(gradient, self.weights.astype(source.dtype)) if wanted else None, None


@dataclass(frozen=True)
class Pool:
    """Maximum pooling.

    Attributes:
        windows: (rows, places) of rows of the source.
        apart: whether every row of the source is in one window, once.
    """

    windows: Indices
    apart: bool

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, Floats]:
        out = empty(len(source), len(self.windows), source.dtype)
        share(pool, len(self.windows), source.size, out, source, self.windows)
        return out, out

    def backward(
        self, gradient: Floats, source: Floats, memory: Floats, values: Floats, wanted: bool
    ) -> tuple[Floats | None, None]:
        if not wanted:
            return None, None
        if self.apart:
            found = empty(len(source), source.shape[1], source.dtype)
            share(unpool_apart, len(self.windows), source.size, found, gradient, memory, source, self.windows)
        else:
            found = torch.zeros(source.shape, dtype=torch_dtype(source.dtype)).numpy()
            unpool(found, gradient, memory, source, self.windows)
        return found, None


def empty(blocks: int, rows: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A new array; torch's memory begins at a cache line, numpy's does not."""
    return torch.empty(blocks, rows, LANES, dtype=torch_dtype(dtype)).numpy()


def address(array: Floats, block: int) -> int:
    """Where a block begins in memory."""
    return int(array.ctypes.data + block * array.strides[0])


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.float32 if dtype == np.float32 else torch.float64


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: Layer, values: Tensor, *sources: Tensor) -> tuple[Tensor, ...]:
        ctx.layer, ctx.values = layer, values.detach().contiguous().numpy()
        arrays = [source.detach().numpy() for source in sources]
        found = side_by_side(lambda piece: layer.forward(arrays[piece], ctx.values), len(sources))
        outs, memories = zip(*found, strict=True)
        ctx.save_for_backward(*sources, *(torch.from_numpy(each) for each in memories if each is not None))
        return tuple(map(torch.from_numpy, outs))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        wanted, given = ctx.needs_input_grad[2], [gradient.contiguous().numpy() for gradient in gradients]
        saved = [tensor.detach().numpy() for tensor in ctx.saved_tensors]
        sources, memories = saved[: len(given)], saved[len(given) :] or [None] * len(given)

        def back(piece: int) -> tuple[Floats | None, Floats | None]:
            found: tuple[Floats | None, Floats | None] = ctx.layer.backward(
                given[piece], sources[piece], memories[piece], ctx.values, wanted
            )
            return found

        of_sources, of_values = zip(*side_by_side(back, len(given)), strict=True)
        whole = None if of_values[0] is None else torch.from_numpy(sum(of_values[1:], of_values[0]))
        return None, whole, *(None if each is None else torch.from_numpy(each) for each in of_sources)


def apply(layer: Layer, sources: Sequence[Tensor], values: Tensor) -> tuple[Tensor, ...]:
    """A layer as a differentiable function of the pieces of a batch (blocks, rows, LANES) and its values (count,)."""
    return cast(tuple[Tensor, ...], _Apply.apply(layer, values, *sources))
