"""Layers over live neurons, forward and backward, and the autograd function that runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from safs_ray.sparse.kernels import LANES, Floats, Indices, add_up, combine, correlate, pool, unpool


class Layer(Protocol):
    """Maps an array (blocks, rows, LANES) to another; ``values`` are its own weights and biases, (count,)."""

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, Any]:
        """The layer's value and what its backward needs besides its arguments."""

    def backward(
        self, gradient: Floats, source: Floats, memory: Any, values: Floats, wanted: bool
    ) -> tuple[Floats | None, Floats | None]:
        """The gradients of ``source``, where wanted, and of ``values``, where it has any."""


@dataclass(frozen=True)
class Combination:
    """Every row of a result as a weighted sum of rows: what :func:`kernels.combine` runs over."""

    rows: Indices
    starts: Indices
    nonzeros: Indices

    def __call__(self, source: Floats, values: Floats) -> Floats:
        out = empty(len(source), len(self.rows), values.dtype)
        combine(out, source, values, self.rows, self.starts, self.nonzeros)
        return out


@dataclass(frozen=True)
class Correlation:
    """Every weight's gradient as a sum of products of rows: what :func:`kernels.correlate` runs over."""

    weights: Indices
    bands: int
    starts: Indices
    pairs: Indices

    def __call__(self, out: Floats, gradient: Floats, source: Floats) -> None:
        correlate(out, gradient, source, self.weights, self.bands, self.starts, self.pairs)


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
class Fixed:
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
        found = empty(len(source), source.shape[1], source.dtype)
        found[:] = 0
        unpool(found, gradient, memory, source, self.windows)
        return found, None


def empty(blocks: int, rows: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A new array; torch's memory begins at a cache line, numpy's does not."""
    return torch.empty(blocks, rows, LANES, dtype=torch.float32 if dtype == np.float32 else torch.float64).numpy()


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: Layer, source: Tensor, values: Tensor) -> Tensor:
        arrays = source.detach().numpy(), values.detach().numpy()
        out, ctx.memory = layer.forward(*arrays)
        ctx.layer, ctx.arrays = layer, arrays
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        source, values = ctx.arrays
        wanted = ctx.needs_input_grad[1]
        found = ctx.layer.backward(gradient.contiguous().numpy(), source, ctx.memory, values, wanted)
        return None, *(None if each is None else torch.from_numpy(each) for each in found)


def apply(layer: Layer, source: Tensor, values: Tensor) -> Tensor:
    """A layer as a differentiable function of its source (blocks, rows, LANES) and its values (count,)."""
    return cast(Tensor, _Apply.apply(layer, source, values))
