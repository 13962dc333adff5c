"""Layers over live neurons, forward and backward, and the autograd function that runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from safs_ray.sparse.kernels import add_up, combine, correlate, covary, mix, moments, pool, rescale, unpool
from safs_ray.sparse.lanes import LANES, Doubles, Floats, Indices


class Layer(Protocol):
    """Maps an array (blocks, rows, LANES) to another; ``values`` are its own weights and biases, (count,)."""

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, Any]:
        """The layer's value and what its backward needs besides its arguments."""

    def backward(
        self, gradient: Floats, source: Floats, memory: Any, values: Floats, wanted: bool
    ) -> tuple[Floats | None, Floats | None]:
        """The gradients of ``source``, where wanted, and of ``values``, where it has any."""


SHARED = 1 << 20
"""Numbers in an array from which on work on it is shared among threads."""


def share(kernel: Callable[..., None], count: int, size: int, *arguments: object) -> None:
    """Run ``kernel(begin, end, *arguments)`` over 0 to ``count``, in parts for as many threads as torch may use.

    What a part writes is its own and summed in the kernel's order: the bits are the same for any number of threads.
    """
    threads = torch.get_num_threads() if size >= SHARED else 1
    if threads == 1:
        kernel(0, count, *arguments)
        return
    ends = [count * part // threads for part in range(threads + 1)]
    parts = [_workers(threads).submit(kernel, begin, end, *arguments) for begin, end in pairwise(ends)]
    for part in parts:
        part.result()


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


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
        found = np.zeros_like(values)
        self.pairs(found[: len(self.pairs.weights)], gradient, source)
        add_up(found[len(self.pairs.weights) :], gradient, self.bias_starts, self.bias_rows)
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
    """Maximum pooling; ``windows`` (rows, places) are rows of the source."""

    windows: Indices

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, Floats]:
        out = empty(len(source), len(self.windows), source.dtype)
        pool(out, source, self.windows)
        return out, out

    def backward(
        self, gradient: Floats, source: Floats, memory: Floats, values: Floats, wanted: bool
    ) -> tuple[Floats | None, None]:
        if not wanted:
            return None, None
        found = torch.zeros(source.shape, dtype=torch_dtype(source.dtype)).numpy()
        unpool(found, gradient, memory, source, self.windows)
        return found, None


class Normalise:
    """Batch normalisation of whole channels; its values are the scales and then the shifts of all channels.

    Args:
        module: the dense network's own, in the values' dtype.
        live: (channels,), which of its channels are left.
    """

    def __init__(self, module: nn.BatchNorm1d | nn.BatchNorm2d, live: npt.NDArray[np.bool_], pixels: int) -> None:
        self._running = cast(Tensor, module.running_mean), cast(Tensor, module.running_var)
        self._batches = cast(Tensor, module.num_batches_tracked)
        self._momentum, self._epsilon = cast(float, module.momentum), module.eps
        self._live, self._places = torch.from_numpy(live), np.flatnonzero(live)
        self._pixels = pixels

    def forward(
        self, sources: Sequence[Floats], values: Floats, known: Sequence[Floats], training: bool
    ) -> tuple[list[Floats], Doubles]:
        """The values of all pieces of a batch, and what backward needs.

        Args:
            known: (blocks, LANES) of every piece, 1 where a lane holds an image, else 0.
            training: whether the statistics are those of the batch.
        """
        mean, variance = self._statistics(sources, known) if training else self._remembered()
        inverse = 1 / np.sqrt(variance + self._epsilon)
        scale, shift = (each[self._places] for each in np.split(values, 2))
        factor = scale * inverse
        summand = (shift - mean * factor).astype(values.dtype)
        outs = [empty(len(source), source.shape[1], values.dtype) for source in sources]
        for out, source in zip(outs, sources, strict=True):
            arguments = source, factor.astype(values.dtype), summand, self._pixels
            share(rescale, len(factor), out.size, out, *arguments)
        return outs, np.stack((mean, inverse))

    def backward(
        self,
        gradients: Sequence[Floats],
        sources: Sequence[Floats],
        memory: Doubles,
        values: Floats,
        known: Sequence[Floats],
        training: bool,
    ) -> tuple[list[Floats], Floats]:
        """The gradients of all pieces and of the values."""
        mean, inverse = memory
        total, product = np.zeros_like(mean), np.zeros_like(mean)
        for gradient, source in zip(gradients, sources, strict=True):
            share(covary, len(mean), source.size, total, product, gradient, source, mean, self._pixels)
        a = np.split(values, 2)[0][self._places] * inverse
        count = _images(known) * self._pixels if training else np.inf
        b = -a * inverse * inverse * product / count
        factors = np.stack((a, b, -a * total / count - b * mean)).astype(values.dtype)
        outs = [empty(len(source), source.shape[1], values.dtype) for source in sources]
        for out, gradient, source, lanes in zip(outs, gradients, sources, known, strict=True):
            share(mix, len(mean), out.size, out, gradient, source, lanes, factors, self._pixels)
        found = np.zeros_like(values)
        np.split(found, 2)[0][self._places] = product * inverse
        np.split(found, 2)[1][self._places] = total
        return outs, found

    def _statistics(self, sources: Sequence[Floats], known: Sequence[Floats]) -> tuple[Doubles, Doubles]:
        """The batch's mean and variance by channel, which the running ones follow."""
        mean, deviation = np.zeros((2, sources[0].shape[1] // self._pixels))
        seen = 0.0
        for source, lanes in zip(sources, known, strict=True):
            share(moments, len(mean), source.size, mean, deviation, seen, source, lanes, self._pixels)
            seen += float(lanes.sum()) * self._pixels
        with torch.no_grad():
            for running, latest in zip(self._running, (mean, deviation / max(seen - 1, 1)), strict=True):
                step = torch.from_numpy(latest).to(running.dtype) - running[self._live]
                running[self._live] += self._momentum * step
            self._batches += 1
        return mean, deviation / seen

    def _remembered(self) -> tuple[Doubles, Doubles]:
        """The running mean and variance by channel."""
        mean, variance = (running[self._live].double().numpy() for running in self._running)
        return mean, variance


def _images(known: Sequence[Floats]) -> float:
    return float(sum(lanes.sum() for lanes in known))


def empty(blocks: int, rows: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A new array; torch's memory begins at a cache line, numpy's does not."""
    return torch.empty(blocks, rows, LANES, dtype=torch_dtype(dtype)).numpy()


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.float32 if dtype == np.float32 else torch.float64


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: Layer, source: Tensor, values: Tensor) -> Tensor:
        ctx.layer, ctx.arrays = layer, (source.detach().numpy(), values.detach().numpy())
        out, ctx.memory = layer.forward(*ctx.arrays)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        source, values = ctx.arrays
        wanted = ctx.needs_input_grad[1]
        found = ctx.layer.backward(gradient.contiguous().numpy(), source, ctx.memory, values, wanted)
        return None, *(None if each is None else torch.from_numpy(each) for each in found)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layer: Normalise, known: Sequence[Floats], training: bool, values: Tensor, *sources: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.layer, ctx.settings = layer, (known, training)
        ctx.values, ctx.sources = values.detach().numpy(), [source.detach().numpy() for source in sources]
        outs, ctx.memory = layer.forward(ctx.sources, ctx.values, known, training)
        return tuple(torch.from_numpy(out) for out in outs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        given = [gradient.contiguous().numpy() for gradient in gradients]
        outs, found = ctx.layer.backward(given, ctx.sources, ctx.memory, ctx.values, *ctx.settings)
        return None, None, None, torch.from_numpy(found), *(torch.from_numpy(out) for out in outs)


def apply(layer: Layer, source: Tensor, values: Tensor) -> Tensor:
    """A layer as a differentiable function of its source (blocks, rows, LANES) and its values (count,)."""
    return cast(Tensor, _Apply.apply(layer, source, values))


def normalise(
    layer: Normalise, sources: Sequence[Tensor], values: Tensor, known: Sequence[Floats], training: bool
) -> tuple[Tensor, ...]:
    """Batch normalisation as a differentiable function of the pieces of a batch and of its values."""
    return cast(tuple[Tensor, ...], _Normalise.apply(layer, known, training, values, *sources))
