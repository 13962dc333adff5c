"""Rows of an array in a file as a tensor, which takes no memory until it is computed with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

Open = Callable[[], npt.NDArray[np.uint8]]
"""Gives an array that lies in a file, in whatever process it is called."""

_DESCRIBING = frozenset(
    (
        Tensor.shape.__get__,  # type: ignore[attr-defined]
        Tensor.dtype.__get__,  # type: ignore[attr-defined]
        Tensor.ndim.__get__,  # type: ignore[attr-defined]
        Tensor.__len__,
        Tensor.size,
        Tensor.dim,
        Tensor.numel,
        Tensor.is_floating_point,
    )
)
"""What is answered without reading anything."""


class MappedRows(Tensor):
    """Rows (N, …) of an array in a memory-mapped file, in any order, by their numbers.

    To slice, to index by several numbers, to split and to move it to a device gives such rows again; to index by one
    number, and ``index_select``, read the rows that they select. Whatever else is done with it is done with a tensor
    in memory of all its rows: of few at a time, therefore. Nothing is ever written to the file. A pickle of it holds
    the numbers of the rows, and opens the file where it is unpickled.

    Examples:
        >>> array = np.arange(12, dtype=np.uint8).reshape(4, 3)
        >>> rows = MappedRows.of(lambda: array)[torch.tensor([3, 0, 1])]
        >>> rows.shape, type(rows[1:]).__name__, (rows[1:] + 0).tolist()
        (torch.Size([3, 3]), 'MappedRows', [[0, 1, 2], [3, 4, 5]])
    """

    _open: Open
    _content: Tensor
    _rows: Tensor
    _place: torch.device

    @classmethod
    def of(cls, open_file: Open) -> MappedRows:
        """All rows of a file, in their order.

        Args:
            open_file: can be pickled where the rows are to be.
        """
        content = _tensor(open_file())
        return cls._made(open_file, content, torch.arange(len(content)), torch.device("cpu"))

    @classmethod
    def _made(cls, open_file: Open, content: Tensor, rows: Tensor, place: torch.device) -> MappedRows:
        shape = (len(rows), *content.shape[1:])
        made = torch.empty(shape, dtype=content.dtype, device="meta").as_subclass(cls)
        made._open, made._content, made._rows, made._place = open_file, content, rows, place
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where what is read of it goes."""
        return self._place

    def read(self) -> Tensor:
        """All rows, in memory."""
        return self._content.index_select(0, self._rows).to(self._place)

    def _chosen(self, chosen: Any) -> MappedRows:
        rows = self._rows[chosen.cpu() if isinstance(chosen, Tensor) else chosen]
        return self._made(self._open, self._content, rows, self._place)

    def _indexed(self, first: Any, *others: Any) -> Tensor:
        """What an index gives: of the rows, or of these and of what they hold."""
        if _is_of_one_row(first):
            row = self._content[self._rows[int(first)]].clone().to(self._place)  # which may be changed in place
            return row[others] if others else row
        chosen = self._chosen(first)
        return chosen.read()[:, *others] if others else chosen

    def _parts(self, ends: Sequence[int]) -> tuple[MappedRows, ...]:
        """The rows up to each of these ends."""
        return tuple(self._chosen(slice(begin, end)) for begin, end in zip((0, *ends), ends, strict=False))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _reopened, (self._open, self._rows.numpy(), str(self._place))

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"MappedRows({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _DESCRIBING:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        named = dict(kwargs or {})
        if args and isinstance(args[0], MappedRows) and named.keys() <= {"dim", "index"}:
            for lazily in _lazily(func, *args, *named.values()):
                return lazily
        read = tree_map_only(MappedRows, MappedRows.read, (list(args), named))
        return func(*read[0], **read[1])


def _lazily(func: Any, mapped: MappedRows, *args: Any) -> Iterator[Any]:
    """What a function gives without reading more than it asks for, if it does."""
    match getattr(func, "__name__", ""), args:
        case "__getitem__", (tuple() as chosen,):
            if chosen and (isinstance(chosen[0], slice) or _is_of_one_row(chosen[0])):
                yield mapped._indexed(*chosen)
        case "__getitem__", (chosen,) if _is_of_one_row(chosen) or _is_of_rows(chosen):
            yield mapped._indexed(chosen)
        case "index_select", (0, Tensor() as chosen):
            yield mapped._chosen(chosen).read()
        case "split", (int(size),) | (int(size), 0):
            yield mapped._parts([*range(size, len(mapped), size), len(mapped)])
        case "tensor_split", (int(count),):
            share, more = divmod(len(mapped), count)
            yield mapped._parts([share * part + min(part, more) for part in range(1, count + 1)])
        case "to", (torch.device() as place,):
            yield mapped._made(mapped._open, mapped._content, mapped._rows, place)


WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of tensors that are numbers of rows; torch takes bytes for a mask."""


def _is_of_rows(index: Any) -> bool:
    """Whether an index says some rows, by nothing but their numbers or a mask."""
    if isinstance(index, list):
        return all(isinstance(each, int) for each in index)
    return isinstance(index, slice) or (isinstance(index, Tensor | np.ndarray) and index.ndim == 1)


def _is_of_one_row(index: Any) -> bool:
    if isinstance(index, Tensor):
        return index.dim() == 0 and index.dtype in WHOLE
    return isinstance(index, int | np.integer) and not isinstance(index, bool)


def _reopened(open_file: Open, rows: npt.NDArray[np.int64], place: str) -> MappedRows:
    return MappedRows._made(open_file, _tensor(open_file()), _tensor(rows), torch.device(place))


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
