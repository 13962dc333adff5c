"""Windows that slide over planes, as tables: which pixels of its input a pixel of a plane sees."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.int64]
"""(pixels, places) of a plane: the input's pixel that a pixel sees at each place of its window; -1 outside."""

Pair = tuple[int, int]
"""Of rows and of columns."""


class Window(NamedTuple):
    """A window that slides over a plane: places ``dilation`` apart, the first window begins ``padding`` outside."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def lies_inside(self, given: Pair, taken: Pair) -> bool:
        """Whether all places lie in the planes of size ``taken``, for each pixel of planes of size ``given``."""
        ends = (
            (count - 1) * stride - padding + (kernel - 1) * dilation
            for count, kernel, stride, padding, dilation in zip(given, *self, strict=True)
        )
        return max(self.padding) <= 0 and all(end < size for end, size in zip(ends, taken, strict=True))


def window(
    kernel: int | tuple[int, ...],
    stride: int | tuple[int, ...],
    padding: int | tuple[int, ...],
    dilation: int | tuple[int, ...] = 1,
) -> Window:
    """The window of torch's settings, each one number or one for rows and one for columns."""
    return Window(*(_pair(each) for each in (kernel, stride, padding, dilation)))


def padding_of(
    padding: str | int | tuple[int, ...], kernel: tuple[int, ...], dilation: int | tuple[int, ...]
) -> int | tuple[int, ...]:
    """A convolution's padding in numbers: ahead of the first place of "same" lies the smaller half, as torch has it."""
    if not isinstance(padding, str):
        return padding
    apart = dilation if isinstance(dilation, tuple) else (dilation,) * len(kernel)
    return tuple(each * (size - 1) // 2 * (padding == "same") for size, each in zip(kernel, apart, strict=True))


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def windows(taken: tuple[int, ...], given: tuple[int, ...], window: Window) -> Table:
    """The table of a window that slides over planes of ``taken`` (C, H, W) and gives planes of ``given``."""
    rows, columns = (_line(*settings) for settings in zip(taken[1:], given[1:], *window, strict=True))
    return _plane(rows, columns, taken[2])


def _line(taken: int, given: int, kernel: int, stride: int, padding: int, dilation: int) -> Table:
    """(given, kernel) of one dimension: what each place sees; -1 outside."""
    seen = np.arange(given)[:, None] * stride - padding + np.arange(kernel) * dilation
    return np.where((seen >= 0) & (seen < taken), seen, -1)


def _plane(rows: Table, columns: Table, width: int) -> Table:
    """The table of the windows that are the product of one dimension's and the other's."""
    row, column = rows[:, None, :, None], columns[None, :, None, :]
    table = np.where((row >= 0) & (column >= 0), row * width + column, -1)
    return table.reshape(len(rows) * len(columns), -1)


def adaptive_windows(taken: tuple[int, ...], given: tuple[int, ...]) -> Table:
    """The table of torch's adaptive average pooling: from floor(i * in / out) to ceil((i + 1) * in / out)."""

    def line(before: int, after: int) -> Table:
        first = np.arange(after) * before // after
        last = -(-(np.arange(after) + 1) * before // after)
        seen = first[:, None] + np.arange((last - first).max())
        return np.where(seen < last[:, None], seen, -1)

    return _plane(line(taken[1], given[1]), line(taken[2], given[2]), taken[2])


def adaptive_window(taken: tuple[int, ...], given: tuple[int, ...]) -> Window | None:
    """The window of adaptive pooling where all of its windows are alike."""
    sizes = tuple(before // after for before, after in zip(taken[1:], given[1:], strict=True))
    if any(before % after for before, after in zip(taken[1:], given[1:], strict=True)):
        return None
    return window(sizes, sizes, 0)
