"""Batch normalisation over live neurons, with the activation that follows it in the same pass.

The pass ahead reads what was convolved and writes what is activated; nothing between them is kept. The way back goes
over both twice: once for the gradient in front of the activation and the sums of a channel, and once, when these are
known, for that of the source. What lies between is computed again: that takes less time than to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from numba.core.cgutils import for_range
from torch import Tensor, nn

from safs_ray.sparse import native
from safs_ray.sparse.kernels import mix, moments
from safs_ray.sparse.lanes import Doubles, Floats
from safs_ray.sparse.layers import address, empty, share, side_by_side
from safs_ray.sparse.operators import ActivationCode, Routine
from safs_ray.sparse.vectors import Vector

IDENTITY = "linear"
"""The operator of a normalisation that no activation follows."""

SUMS = 2
"""Of every channel: the gradients in front of the activation, and their products with the source less its mean."""


class Code(NamedTuple):
    """An operator behind a normalisation, as functions that run beside other threads, of integers of 64 bits.

    ``factors`` (channels, 3) are each channel's factor, summand and mean; ``begin`` and ``end`` count channels.

    Attributes:
        ahead: ``(out, source, parameters, factors, begin, end, pixels)`` writes f(factor * source + summand).
        back: ``(out, gradient, source, sums, parameters, factors, begin, end, pixels)`` writes the gradient in front
            of the operator, and of each channel its :data:`SUMS` and the gradient of each parameter to ``sums``
            (channels, SUMS + parameters).
        back_frozen: the same without the gradients of parameters, the last of ``sums``.
    """

    ahead: Callable[..., None]
    back: Callable[..., None]
    back_frozen: Callable[..., None]


ARGUMENTS = {"ahead": 7, "back": 9, "back_frozen": 9}


@cache
def code_of(operator: str, dtype: np.dtype[np.floating]) -> Code:
    """The code of an operator of the table, or a user's.

    Raises:
        NotCompilableError: it does what has no rule.
    """
    module = ir.Module(name=operator)
    element = ir.FloatType() if dtype == np.float32 else ir.DoubleType()
    _ahead(Routine(module, "ahead", ARGUMENTS["ahead"], element), operator)
    _back(Routine(module, "back", ARGUMENTS["back"], element), operator, learns=True)
    _back(Routine(module, "back_frozen", ARGUMENTS["back_frozen"], element), operator, learns=False)
    addresses = native.load(str(module), Code._fields)
    return Code(**{name: native.function(addresses[name], count) for name, count in ARGUMENTS.items()})


def _ahead(routine: Routine, operator: str) -> None:
    out, source, parameters, factors, begin, end, pixels = routine.arguments
    builder, activation = routine.builder, ActivationCode(operator, routine, parameters)
    with for_range(builder, end, begin) as channel:
        factor, summand = routine.numbers(factors, 2, builder.mul(channel.index, ir.IntType(64)(3)))
        first = builder.mul(channel.index, pixels)
        with for_range(builder, pixels) as pixel:
            row = builder.add(first, pixel.index)
            routine.store(out, row, activation.value(routine.load(source, row) * factor + summand))
    builder.ret_void()


def _back(routine: Routine, operator: str, *, learns: bool) -> None:
    out, gradient, source, sums, parameters, factors, begin, end, pixels = routine.arguments
    builder, activation = routine.builder, ActivationCode(operator, routine, parameters)
    width = SUMS + activation.parameters
    nothing = routine.nothing
    totals = [builder.alloca(nothing.bits.type) for _ in range(width if learns else SUMS)]  # LLVM makes them registers
    with for_range(builder, end, begin) as channel:
        factor, summand, mean = routine.numbers(factors, 3, builder.mul(channel.index, ir.IntType(64)(3)))
        first = builder.mul(channel.index, pixels)
        for total in totals:
            builder.store(nothing.bits, total)
        with for_range(builder, pixels) as pixel:
            row = builder.add(first, pixel.index)
            x, given = routine.load(source, row), routine.load(gradient, row)
            before, of_parameters = activation.gradients(x * factor + summand, given)
            routine.store(out, row, before)
            products = [before, before * (x - mean), *of_parameters]
            for total, product in zip(totals, products[: len(totals)], strict=True):
                if product:
                    builder.store((Vector(builder, builder.load(total)) + product).bits, total)
        base = builder.mul(channel.index, ir.IntType(64)(width))
        for place, total in enumerate(totals):
            routine.store_sum(sums, builder.add(base, ir.IntType(64)(place)), Vector(builder, builder.load(total)))
    builder.ret_void()


class Normalise:
    """Batch normalisation of whole channels, and an activation; its values are the scales and then the shifts.

    Args:
        module: the dense network's own, in the values' dtype.
        live: (channels,), which of its channels are left.
        operator: of the activation, one that can be compiled.
    """

    def __init__(
        self,
        module: nn.BatchNorm1d | nn.BatchNorm2d,
        live: npt.NDArray[np.bool_],
        pixels: int,
        operator: str = IDENTITY,
    ) -> None:
        self._running = cast(Tensor, module.running_mean), cast(Tensor, module.running_var)
        self._batches = cast(Tensor, module.num_batches_tracked)
        self._momentum, self._epsilon = cast(float, module.momentum), module.eps
        self._live, self._places = torch.from_numpy(live), np.flatnonzero(live)
        self._pixels, self._operator = pixels, operator

    def forward(
        self,
        sources: Sequence[Floats],
        values: Floats,
        parameters: Floats,
        known: Sequence[Floats],
        training: bool,
    ) -> tuple[list[Floats], Doubles]:
        """The values of all pieces of a batch, and what backward needs.

        Args:
            parameters: alpha, beta and those of the operator.
            known: (blocks, LANES) of every piece, 1 where a lane holds an image, else 0.
            training: whether the statistics are those of the batch.
        """
        mean, variance = self._statistics(sources, known) if training else self._remembered()
        memory = np.stack((mean, 1 / np.sqrt(variance + self._epsilon)))
        factors, code = self._factors(values, memory), code_of(self._operator, values.dtype)

        def normalised(piece: int) -> Floats:
            source = sources[piece]
            out = empty(len(source), source.shape[1], values.dtype)
            share(_run, len(factors), out.size, code.ahead, (out, source), (parameters, factors), self._pixels)
            return out

        return side_by_side(normalised, len(sources)), memory

    def backward(
        self,
        gradients: Sequence[Floats],
        sources: Sequence[Floats],
        memory: Doubles,
        values: Floats,
        parameters: Floats,
        known: Sequence[Floats],
        training: bool,
        learns: bool,
    ) -> tuple[list[Floats], Floats, Floats]:
        """The gradients of all pieces, of the values and, where they are learned, of the parameters."""
        mean, inverse = memory
        code = code_of(self._operator, values.dtype)
        back = code.back if learns else code.back_frozen
        factors = self._factors(values, memory)

        def pulled(piece: int) -> tuple[Floats, Doubles]:
            source = sources[piece]
            out = empty(len(source), source.shape[1], values.dtype)
            sums = np.zeros((len(source), len(mean), SUMS + len(parameters)), values.dtype)
            arrays = out, gradients[piece], source, sums
            share(_run, len(mean), source.size, back, arrays, (parameters, factors), self._pixels)
            return out, sums.sum(0, dtype=np.float64)

        outs, sums = zip(*side_by_side(pulled, len(sources)), strict=True)
        found = np.sum(sums, 0)
        total, product = found.T[:SUMS]
        a = np.split(values, 2)[0][self._places] * inverse
        count = _images(known) * self._pixels if training else np.inf
        b = -a * inverse * inverse * product / count
        mixed = np.stack((a, b, -a * total / count - b * mean)).astype(values.dtype)

        def mix_piece(piece: int) -> None:
            out = outs[piece]
            share(mix, len(mean), out.size, out, out, sources[piece], known[piece], mixed, self._pixels)

        side_by_side(mix_piece, len(sources))
        of_values = np.zeros_like(values)
        np.split(of_values, 2)[0][self._places] = product * inverse
        np.split(of_values, 2)[1][self._places] = total
        return list(outs), of_values, found[:, SUMS:].sum(0).astype(values.dtype)

    def _factors(self, values: Floats, memory: Doubles) -> Floats:
        """(channels, 3) of the live channels: factor, summand and mean."""
        mean, inverse = memory
        scale, shift = (each[self._places] for each in np.split(values, 2))
        factor = scale * inverse
        return np.ascontiguousarray(np.stack((factor, shift - mean * factor, mean), axis=1), values.dtype)

    def _statistics(self, sources: Sequence[Floats], known: Sequence[Floats]) -> tuple[Doubles, Doubles]:
        """The batch's mean and variance by channel, which the running ones follow."""

        def of_piece(piece: int) -> Doubles:
            found = np.zeros((2, sources[0].shape[1] // self._pixels))
            share(moments, found.shape[1], sources[piece].size, *found, 0.0, sources[piece], known[piece], self._pixels)
            return found

        counts = [float(lanes.sum()) * self._pixels for lanes in known]
        mean, deviation, seen = merged(side_by_side(of_piece, len(sources)), counts)
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


def _run(
    begin: int,
    end: int,
    code: Callable[..., None],
    arrays: Sequence[Floats],
    constants: Sequence[Floats],
    pixels: int,
) -> None:
    """Run code over some channels of all blocks."""
    numbers = [each.ctypes.data for each in constants]
    for block in range(len(arrays[0])):
        code(*(address(each, block) for each in arrays), *numbers, begin, end, pixels)


def merged(found: Sequence[Doubles], counts: Sequence[float]) -> tuple[Doubles, Doubles, float]:
    """Mean, summed squared deviation and count of all pieces, one merged after the other (Chan et al. 1979).

    Args:
        found: mean and summed squared deviation (2, channels) of each.
    """
    (mean, deviation), seen = found[0], counts[0]
    for (own, squares), count in zip(found[1:], counts[1:], strict=True):
        step, seen = own - mean, seen + count
        mean = mean + step * count / seen
        deviation = deviation + squares + step * step * (seen - count) * count / seen
    return mean, deviation, seen


def _images(known: Sequence[Floats]) -> float:
    return float(sum(lanes.sum() for lanes in known))


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: Normalise,
        known: Sequence[Floats],
        training: bool,
        values: Tensor,
        parameters: Tensor,
        *sources: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.layer, ctx.settings = layer, (known, training)
        ctx.values = values.detach().numpy(), parameters.detach().contiguous().numpy()
        ctx.sources = [source.detach().numpy() for source in sources]
        own, numbers = ctx.values
        outs, ctx.memory = layer.forward(ctx.sources, own, numbers, known, training)
        return tuple(torch.from_numpy(out) for out in outs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        given = [gradient.contiguous().numpy() for gradient in gradients]
        learns = ctx.needs_input_grad[4]
        outs, *found = ctx.layer.backward(given, ctx.sources, ctx.memory, *ctx.values, *ctx.settings, learns)
        of_values, of_parameters = (torch.from_numpy(each) for each in found)
        return None, None, None, of_values, of_parameters if learns else None, *map(torch.from_numpy, outs)


def normalise(
    layer: Normalise,
    sources: Sequence[Tensor],
    values: Tensor,
    parameters: Tensor,
    known: Sequence[Floats],
    training: bool,
) -> tuple[Tensor, ...]:
    """A layer as a differentiable function of the pieces of a batch, its values and its activation's parameters."""
    return cast(tuple[Tensor, ...], _Normalise.apply(layer, known, training, values, parameters, *sources))
