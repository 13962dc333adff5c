"""What the engine does for an image: passes over values, each of which is a number of planes.

Every pass writes one value whole. All passes but windows and collections are sums of shifted planes times weights,
so that convolutions, linear layers, sums, and normalisations are one kind of pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from safs_ray.operators import Operator
from safs_ray.sparse.windows import Table, Window

Numbers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Value:
    """Planes (channels, height, width); known by its place in the list of all values."""

    channels: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True, eq=False)
class Places:
    """Planes, or single pixels of planes, of any values: one for each entry of equally long arrays.

    Attributes:
        value, channel: which plane.
        row, column: where in it: of the pixel, or of the pixel that the first pixel of what reads it sees.
    """

    value: Numbers
    channel: Numbers
    row: Numbers
    column: Numbers

    def __getitem__(self, which: npt.NDArray[np.generic]) -> Places:
        return Places(self.value[which], self.channel[which], self.row[which], self.column[which])

    def __len__(self) -> int:
        return len(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places) and all(map(np.array_equal, self.arrays, other.arrays))

    @property
    def arrays(self) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        return self.value, self.channel, self.row, self.column


@dataclass(frozen=True)
class Function:
    """f(x) = alpha g(beta x) of channels ``first`` to ``end``.

    Attributes:
        parameters: alpha, beta and g's own; (2 + own,), or (channels, 2 + own) where each channel has its own.
    """

    operator: Operator
    parameters: npt.NDArray[np.float32]
    first: int
    end: int


@dataclass(frozen=True)
class Read:
    """The images, normalised."""

    out: int


@dataclass(frozen=True)
class Weigh:
    """Each channel is a function of its bias and the sum of its terms: planes, shifted, times weights.

    Attributes:
        starts: the terms of channel c are those from ``starts[c]`` to ``starts[c + 1]``.
        functions: in the order of their channels, all of them.
    """

    out: int
    starts: Numbers
    terms: Places
    weights: Weights
    bias: Weights
    functions: Sequence[Function]


@dataclass(frozen=True)
class Scale:
    """Each channel is a plane times the number that value ``gate`` has for it."""

    out: int
    planes: Places
    gate: int


@dataclass(frozen=True)
class Slide:
    """The largest value, or the weighted sum, of a window that slides over each plane.

    Attributes:
        weights: (pixels,) what sums are multiplied with; None for the largest.
    """

    out: int
    planes: Places
    window: Window
    weights: Weights | None


@dataclass(frozen=True)
class Collect:
    """The largest value, or the weighted sum, of listed pixels of each plane.

    Attributes:
        table: of every pixel, those of a plane of ``width`` columns.
        weights: as of :class:`Slide`.
    """

    out: int
    planes: Places
    table: Table
    width: int
    weights: Weights | None


@dataclass(frozen=True)
class Foreign:
    """What torch does with values, whole.

    Attributes:
        inputs: the channels of each.
        shapes: of each, and of the value that it gives, for one image.
    """

    out: int
    inputs: Sequence[Places]
    shapes: Sequence[tuple[int, ...]]
    run: Callable[[Sequence[Tensor]], Tensor]
    name: str
    reason: str


Pass = Read | Weigh | Scale | Slide | Collect | Foreign


@dataclass(frozen=True)
class Passes:
    """A network as passes over values.

    Attributes:
        logits: the value that holds them, a channel of one pixel for each class.
    """

    values: Sequence[Value]
    passes: Sequence[Pass]
    logits: int

    @property
    def foreign(self) -> Sequence[Foreign]:
        """What torch does."""
        return [each for each in self.passes if isinstance(each, Foreign)]


def read_by(one: Pass) -> Sequence[Places]:
    """All that a pass reads."""
    match one:
        case Weigh(terms=terms):
            return [terms]
        case Scale(planes=planes, gate=gate):
            return [planes, planes_of(gate, len(planes))]
        case Slide(planes=planes) | Collect(planes=planes):
            return [planes]
        case Foreign(inputs=inputs):
            return inputs
    return []


def planes_of(value: int, channels: int) -> Places:
    """The first channels of a value."""
    nothing = np.zeros(channels, np.int64)
    return Places(nothing + value, np.arange(channels), nothing, nothing)
