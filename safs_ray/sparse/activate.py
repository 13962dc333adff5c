"""A site's activation as a layer over live neurons: its compiled operator goes over an array once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from safs_ray.sparse import native
from safs_ray.sparse.lanes import LANES, Floats
from safs_ray.sparse.layers import address, empty, share
from safs_ray.sparse.operators import OperatorCode, compiled


@dataclass(frozen=True)
class Activate:
    """f(x) = alpha g(beta x); its values are alpha, beta and the operator's internal parameters.

    It holds the operator's name, not its code, which has other addresses in another process.

    Raises:
        NotCompilableError: the operator cannot be compiled; once it is called.
    """

    operator: str

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, None]:
        out = _like(source)
        share(_ahead, len(source), source.size, _code(self.operator, source.dtype).ahead, out, source, values)
        return out, None

    def backward(
        self, gradient: Floats, source: Floats, memory: None, values: Floats, wanted: bool
    ) -> tuple[Floats, Floats]:
        """The gradients; that of the source is found with those of the values, whether it is wanted or not."""
        out = _like(source)
        sums = np.zeros((len(source), len(values), LANES), source.dtype)
        code = _code(self.operator, source.dtype).back
        share(_back, len(source), source.size, code, out, gradient, source, values, sums)
        return out, sums.sum((0, 2))


@dataclass(frozen=True)
class ActivateFrozen:
    """The same while no value is learned: what the way back needs is found on the way ahead, with half the work."""

    operator: str

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, Floats]:
        out, slopes = _like(source), _like(source)
        share(_both, len(source), source.size, _code(self.operator, source.dtype).both, out, slopes, source, values)
        return out, slopes

    def backward(
        self, gradient: Floats, source: Floats, memory: Floats, values: Floats, wanted: bool
    ) -> tuple[Floats, None]:
        out = _like(source)
        share(_multiply, len(source), source.size, out, gradient, memory)
        return out, None


class Code(NamedTuple):
    """The functions of :class:`safs_ray.sparse.operators.OperatorCode`, which run beside other threads."""

    ahead: Callable[..., None]
    both: Callable[..., None]
    back: Callable[..., None]


ARGUMENTS = OperatorCode(ahead=4, both=5, back=6)


@cache
def _code(operator: str, dtype: np.dtype[np.floating]) -> Code:
    return Code(*map(native.function, compiled(operator, dtype == np.float32), ARGUMENTS))


def _like(source: Floats) -> Floats:
    return empty(len(source), source.shape[1], source.dtype)


def _ahead(begin: int, end: int, code: Callable[..., None], out: Floats, source: Floats, values: Floats) -> None:
    code(address(out, begin), address(source, begin), values.ctypes.data, _rows(source, begin, end))


def _both(
    begin: int, end: int, code: Callable[..., None], out: Floats, slopes: Floats, source: Floats, values: Floats
) -> None:
    arrays = (address(each, begin) for each in (out, slopes, source))
    code(*arrays, values.ctypes.data, _rows(source, begin, end))


def _multiply(begin: int, end: int, out: Floats, gradient: Floats, slopes: Floats) -> None:
    np.multiply(gradient[begin:end], slopes[begin:end], out[begin:end])


def _back(
    begin: int,
    end: int,
    code: Callable[..., None],
    out: Floats,
    gradient: Floats,
    source: Floats,
    values: Floats,
    sums: Floats,
) -> None:
    for block in range(begin, end):  # each sums on its own: the bits are the same for any number of threads
        arrays = (address(each, block) for each in (out, gradient, source))
        code(*arrays, values.ctypes.data, address(sums, block), source.shape[1])


def _rows(source: Floats, begin: int, end: int) -> int:
    return (end - begin) * len(source[0])
