"""Batch normalisation over live neurons, with the layer before it and the tail behind it in the same passes.

What is convolved is measured while it is in the cache. Once all of a batch is measured, the tail goes over it. On the
way back the tail finds the gradient behind the scaling and the sums of a channel; when these are known, the gradient of
each piece is found and goes on through the layer while it is in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from safs_ray.sparse.kernels import mix, moments
from safs_ray.sparse.lanes import Doubles, Floats, Indices
from safs_ray.sparse.layers import Linear, address, empty, share, side_by_side
from safs_ray.sparse.tails import SUMS, Tail, code_of

NO_WINDOWS = np.zeros((0, 0), np.int64)


class Values(NamedTuple):
    """What is learned.

    Attributes:
        layer: weights and biases of the layer before, or none.
        norm: the scales and then the shifts.
        parameters: alpha, beta and those of the tail's operator.
    """

    layer: Floats
    norm: Floats
    parameters: Floats


class Batch(NamedTuple):
    """What a batch is beside its values.

    Attributes:
        images: how many every piece holds.
        known: (blocks, LANES) of every piece, 1 where a lane holds an image, else 0.
        training: whether the statistics are those of the batch.
    """

    images: Sequence[int]
    known: Sequence[Floats]
    training: bool


class Memory(NamedTuple):
    """What backward needs beside what forward was given.

    Attributes:
        sources: the pieces that are normalised.
        statistics: (2, channels), means and inverse deviations.
    """

    sources: Sequence[Floats]
    statistics: Doubles


class Normalise:
    """Batch normalisation of whole channels.

    Args:
        module: the dense network's own, in the values' dtype.
        live: (channels,), which of its channels are left.
        tail: what follows it.
        windows: of a tail that pools, the rows (pooled pixels, places) of a plane.
        layer: what is read by the normalisation alone, and computed with it.
    """

    def __init__(
        self,
        module: nn.BatchNorm1d | nn.BatchNorm2d,
        live: npt.NDArray[np.bool_],
        pixels: int,
        tail: Tail,
        windows: Indices | None = None,
        layer: Linear | None = None,
    ) -> None:
        self._running = cast(Tensor, module.running_mean), cast(Tensor, module.running_var)
        self._batches = cast(Tensor, module.num_batches_tracked)
        self._momentum, self._epsilon = cast(float, module.momentum), module.eps
        self._places = np.flatnonzero(live)
        self._pixels, self._tail, self._layer = pixels, tail, layer
        self._windows = NO_WINDOWS if windows is None else windows.astype(np.int64)
        self._planes = pixels, len(self._windows) if tail.places else pixels

    def forward(
        self, inputs: Sequence[Floats], others: Sequence[Floats], values: Values, batch: Batch
    ) -> tuple[list[Floats], Memory]:
        """The values of all pieces of a batch.

        Args:
            others: what a tail that adds adds, else none.
        """
        sources, statistics = self._measured(inputs, values.layer, batch)
        constants = self._windows, values.parameters, self._factors(values.norm, statistics)
        code = code_of(self._tail, values.norm.dtype)

        def finished(piece: int) -> Floats:
            source = sources[piece]
            out = empty(len(source), len(self._places) * self._planes[1], source.dtype)
            arrays = out, source, others[piece] if others else source
            share(_run, len(self._places), source.size, code.ahead, arrays, constants, self._planes)
            return out

        return side_by_side(finished, len(sources)), Memory(sources, statistics)

    def backward(
        self,
        gradients: Sequence[Floats],
        inputs: Sequence[Floats],
        others: Sequence[Floats],
        values: Values,
        batch: Batch,
        memory: Memory,
        wanted: bool,
        learns: bool,
    ) -> tuple[Sequence[Floats | None], Sequence[Floats], Values]:
        """The gradients of the pieces that are read and of those that are added, and of what is learned.

        Args:
            wanted: whether those of the pieces that are read are.
            learns: whether those of the parameters are.
        """
        sources, (mean, inverse) = memory
        constants = self._windows, values.parameters, self._factors(values.norm, memory.statistics)
        code = code_of(self._tail, values.norm.dtype)
        back = code.back if learns else code.back_frozen

        def pulled(piece: int) -> tuple[Floats, Doubles]:
            source = sources[piece]
            out = empty(len(source), source.shape[1], source.dtype)
            sums = np.zeros((len(source), len(mean), SUMS + len(values.parameters)), source.dtype)
            arrays = out, gradients[piece], source, others[piece] if others else source, sums
            share(_run, len(mean), source.size, back, arrays, constants, self._planes)
            return out, sums.sum(0, dtype=np.float64)

        behind, sums = zip(*side_by_side(pulled, len(sources)), strict=True)
        found = np.sum(sums, 0)
        total, product = found.T[:SUMS]
        mixed = self._mixture(values.norm, memory.statistics, total, product, batch).astype(values.norm.dtype)

        # A shift in front of a batch's own mean changes nothing: its gradient is 0, or NaN as that of all else.
        biases = not batch.training or not np.isfinite(total).all()

        def passed_on(piece: int) -> tuple[Floats | None, Floats | None]:
            own = behind[piece]
            out = empty(len(own), own.shape[1], own.dtype) if others else own
            share(mix, len(mean), out.size, out, own, sources[piece], batch.known[piece], mixed, self._pixels)
            if not self._layer:
                return out, None
            return self._layer.pulled(out, inputs[piece], values.layer, wanted, biases)

        of_inputs, of_layer = zip(*side_by_side(passed_on, len(sources)), strict=True)
        of_norm = np.zeros_like(values.norm)
        for part, own in zip(_halves(of_norm), (product * inverse, total), strict=True):
            part[self._places] = own
        of_parameters = found[:, SUMS:].sum(0).astype(values.norm.dtype)
        whole = sum(of_layer[1:], of_layer[0]) if self._layer else values.layer
        return of_inputs, behind if others else (), Values(whole, of_norm, of_parameters)

    def _measured(self, inputs: Sequence[Floats], weights: Floats, batch: Batch) -> tuple[list[Floats], Doubles]:
        """What is normalised, and its means and inverse deviations."""

        def made(piece: int) -> tuple[Floats, Doubles]:
            source = self._layer.forward(inputs[piece], weights)[0] if self._layer else inputs[piece]
            found = np.zeros((2, len(self._places)))
            if batch.training:
                known = batch.known[piece]
                share(moments, found.shape[1], source.size, *found, 0.0, source, known, self._pixels)
            return source, found

        sources, found = zip(*side_by_side(made, len(inputs)), strict=True)
        if batch.training:
            mean, variance = self._follow(found, [images * self._pixels for images in batch.images])
        else:
            mean, variance = (running.numpy()[self._places].astype(np.float64) for running in self._running)
        return list(sources), np.stack((mean, 1 / np.sqrt(variance + self._epsilon)))

    def _follow(self, found: Sequence[Doubles], counts: Sequence[int]) -> tuple[Doubles, Doubles]:
        """The batch's mean and variance by channel, which the running ones follow."""
        mean, deviation, seen = merged(found, counts)
        for own, latest in zip(self._running, (mean, deviation / max(seen - 1, 1)), strict=True):
            running = own.numpy()
            running[self._places] += self._momentum * (latest.astype(running.dtype) - running[self._places])
        self._batches += 1
        return mean, deviation / seen

    def _factors(self, values: Floats, statistics: Doubles) -> Floats:
        """(channels, 3) of the live channels: factor, summand and mean."""
        mean, inverse = statistics
        scale, shift = (each[self._places] for each in _halves(values))
        factor = scale * inverse
        return np.ascontiguousarray(np.stack((factor, shift - mean * factor, mean), axis=1), values.dtype)

    def _mixture(self, values: Floats, statistics: Doubles, total: Doubles, product: Doubles, batch: Batch) -> Doubles:
        """(3, channels): of what :func:`mix` makes the gradient of the source, given the sums of a channel."""
        mean, inverse = statistics
        a = _halves(values)[0][self._places] * inverse
        count = sum(batch.images) * self._pixels if batch.training else np.inf
        b = -a * inverse * inverse * product / count
        return np.stack((a, b, -a * total / count - b * mean))


def _run(
    begin: int,
    end: int,
    code: Callable[..., None],
    arrays: Sequence[Floats],
    constants: Sequence[npt.NDArray[Any]],
    planes: tuple[int, int],
) -> None:
    """Run code over some channels of all blocks, which ``arrays`` have and constants do not."""
    numbers = [each.ctypes.data for each in constants]
    for block in range(len(arrays[0])):
        code(*(address(each, block) for each in arrays), *numbers, begin, end, *planes)


def _halves(values: Floats) -> tuple[Floats, Floats]:
    """The scales, and the shifts."""
    count = len(values) // 2
    return values[:count], values[count:]


def merged(found: Sequence[Doubles], counts: Sequence[int]) -> tuple[Doubles, Doubles, int]:
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


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, norm: Normalise, batch: Batch, layer: Tensor, values: Tensor, parameters: Tensor, *pieces: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.norm, ctx.batch = norm, batch
        ctx.values = Values(*(each.detach().contiguous().numpy() for each in (layer, values, parameters)))
        arrays, count = [piece.detach().numpy() for piece in pieces], len(batch.images)
        outs, memory = norm.forward(arrays[:count], arrays[count:], ctx.values, batch)
        ctx.statistics = memory.statistics
        ctx.save_for_backward(*map(torch.from_numpy, memory.sources), *pieces)
        return tuple(map(torch.from_numpy, outs))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        given = [gradient.contiguous().numpy() for gradient in gradients]
        learns, wanted = ctx.needs_input_grad[4:6]
        saved, count = [tensor.detach().numpy() for tensor in ctx.saved_tensors], len(given)
        sources, inputs, others = saved[:count], saved[count : 2 * count], saved[2 * count :]
        memory = Memory(sources, ctx.statistics)
        of_inputs, of_others, found = ctx.norm.backward(
            given, inputs, others, ctx.values, ctx.batch, memory, wanted, learns
        )
        of_layer, of_norm, of_parameters = map(torch.from_numpy, found)
        of_pieces = (None if each is None else torch.from_numpy(each) for each in (*of_inputs, *of_others))
        return None, None, of_layer, of_norm, of_parameters if learns else None, *of_pieces


def normalise(
    norm: Normalise,
    inputs: Sequence[Tensor],
    others: Sequence[Tensor],
    values: tuple[Tensor, Tensor, Tensor],
    batch: Batch,
) -> tuple[Tensor, ...]:
    """A normalisation as a differentiable function of the pieces of a batch and of :class:`Values`."""
    return cast(tuple[Tensor, ...], _Normalise.apply(norm, batch, *values, *inputs, *others))
