"""A site's activation as a layer over live neurons: its compiled operator goes over an array once."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from safs_ray.sparse.kernels import LANES, Floats
from safs_ray.sparse.layers import empty, share
from safs_ray.sparse.operators import compiled


@dataclass(frozen=True)
class Activate:
    """f(x) = alpha g(beta x); its values are alpha, beta and the operator's internal parameters.

    It holds the operator's name, not its code, which has other addresses in another process.

    Raises:
        NotCompilableError: the operator cannot be compiled; once it is called.
    """

    operator: str

    def forward(self, source: Floats, values: Floats) -> tuple[Floats, None]:
        out = empty(len(source), source.shape[1], source.dtype)
        share(_ahead, len(source), source.size, _code(self.operator, source.dtype == np.float32), out, source, values)
        return out, None

    def backward(
        self, gradient: Floats, source: Floats, memory: None, values: Floats, wanted: bool
    ) -> tuple[Floats, Floats]:
        """The gradients; that of the source is found with those of the values, whether it is wanted or not."""
        out = empty(len(source), source.shape[1], source.dtype)
        sums = np.zeros((len(source), len(values), LANES), source.dtype)
        code = _code(self.operator, source.dtype == np.float32)
        share(_back, len(source), source.size, code, out, gradient, source, values, sums)
        return out, sums.sum((0, 2))


Code = tuple[Callable[..., None], Callable[..., None]]
"""Ahead and back of :class:`safs_ray.sparse.operators.Compiled`, which run beside other threads."""


@cache
def _code(operator: str, single: bool) -> Code:
    addresses = compiled(operator, single)
    ahead, back = (
        ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)(address)
        for address, count in ((addresses.ahead, 4), (addresses.back, 6))
    )
    return ahead, back


def _ahead(begin: int, end: int, code: Code, out: Floats, source: Floats, values: Floats) -> None:
    rows = (end - begin) * source.shape[1]
    code[0](out[begin:].ctypes.data, source[begin:].ctypes.data, values.ctypes.data, rows)


def _back(
    begin: int,
    end: int,
    code: Code,
    out: Floats,
    gradient: Floats,
    source: Floats,
    values: Floats,
    sums: Floats,
) -> None:
    for block in range(begin, end):  # each sums on its own: the bits are the same for any number of threads
        arrays = (each[block].ctypes.data for each in (out, gradient, source))
        code[1](*arrays, values.ctypes.data, sums[block].ctypes.data, source.shape[1])
