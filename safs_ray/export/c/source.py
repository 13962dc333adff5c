"""The files of a network in C: ``network.h`` and ``network.c``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from safs_ray.engine.layout import Cells, Layout
from safs_ray.engine.passes import (
    Collect,
    Foreign,
    Function,
    Pass,
    Passes,
    Read,
    Scale,
    Slide,
    Weigh,
    planes_of,
)
from safs_ray.export.c import kernels
from safs_ray.export.c.expressions import function_of, is_identity
from safs_ray.export.c.tables import Tables, array, listed, pairs, structure_of_planes, type_of_counts
from safs_ray.export.c.windows import FLOATS, inside, lies_inside
from safs_ray.models import Specification

SMALL, SLACK = 96, kernels.VECTOR // 2
"""Planes of no more numbers are summed up in registers, and how many numbers beyond the last are read for that."""


class Source(Tables):
    """Writes the functions and tables that passes need.

    Attributes:
        memory: how many numbers a call works on.
    """

    def __init__(self, passes: Passes, specification: Specification) -> None:
        self._passes, self._specification = passes, specification
        super().__init__(Layout(passes, slack=SLACK))
        self.use(kernels.FILL, kernels.CLEAR)
        self._functions: dict[str, tuple[str, str]] = {}
        self.memory = self.layout.size
        self._count = type_of_counts([each for each in passes.passes if isinstance(each, Weigh)])
        for number, one in enumerate(passes.passes):
            self._write(number, one)

    def text(self, includes: Sequence[str], interface: str) -> str:
        """The whole file.

        Args:
            includes: headers.
            interface: what a user calls.
        """
        return "\n".join([
            *(f"#include {each}" for each in includes),
            "",
            f"typedef {self._count.name}_t network_count;",
            kernels.STRUCTURES,
            *(each for each in (kernels.WINDOWS, kernels.LISTS) if each in self.kernels),
            *self._tables_of_images(),
            *(each for each in self.kernels if each not in (kernels.WINDOWS, kernels.LISTS)),
            *self._reading(),
            *(text for _, text in self._functions.values()),
            *self.texts,
            "static void run(float *memory)",
            "{",
            *(f"    {call};" for call in self.calls),
            "}",
            interface,
        ])  # fmt: skip

    def _reading(self) -> Iterator[str]:
        """What reads an input: of bytes also as floats from 0 to 255."""
        of_bytes = self._specification.kind == "uint8"
        yield kernels.READ.replace("$VALUE", kernels.SCALED if of_bytes else kernels.CENTRED)
        if of_bytes:
            yield kernels.READ_BYTES
        yield kernels.READ_FLOATS

    @property
    def logits(self) -> Cells:
        """Where the logits lie at the end."""
        return self.layout.cells[self._passes.logits]

    @property
    def flash(self) -> int:
        """Bytes of constants, those that inputs are read by among them."""
        return self.constants + 4 * (2 * len(self._specification.mean) + 8)

    def _tables_of_images(self) -> Iterator[str]:
        (read,) = (each for each in self._passes.passes if isinstance(each, Read))
        mean, deviation = np.array(self._specification.mean), np.array(self._specification.deviation)
        if self._specification.kind == "uint8":
            yield array("float", "factors", (1 / (255 * deviation)).tolist())
            yield array("float", "summands", (-mean / deviation).tolist())
        else:
            yield array("float", "shifts", mean.tolist())
            yield array("float", "units", deviation.tolist())
        yield f"static const struct planes images = {self._planes(self.layout.cells[read.out])};"

    def _write(self, number: int, one: Pass) -> None:
        if not self.layout.cells[one.out].channels or isinstance(one, Read):
            return
        match one:
            case Weigh():
                self._sums(number, one)
            case Scale():
                self._scale(number, one)
            case Slide():
                self._windows(number, one)
            case Collect():
                self._lists(number, one)
            case Foreign(name=name):
                raise TypeError(f"{name} has no C")

    def _sums(self, number: int, weigh: Weigh) -> None:
        places, nearest, bits = self.places(weigh.terms)
        cells = self.layout.cells[weigh.out]
        kernel, name = _kernel(cells, bits)
        self.use(*([] if cells.stride == 1 else [kernels.FINISH]), kernel)
        tables = {
            "counts": self.table(f"counts_{number}", np.diff(weigh.starts).astype(self._count), "network_count"),
            "weights": self.table(f"weights_{number}", weigh.weights.astype(np.float32)),
            "bias": self.table(f"bias_{number}", weigh.bias.astype(np.float32)),
            "places": self.table(f"places_{number}", places),
        }
        for part, function in enumerate(each for each in weigh.functions if each.end > each.first):
            self._part(f"sums_{number}_{part}", name, cells, nearest, weigh, tables, function)

    def _part(
        self, own: str, kernel: str, cells: Cells, nearest: int, weigh: Weigh, tables: Mapping[str, str], one: Function
    ) -> None:
        """The sums of the channels that have one function."""
        first = int(weigh.starts[one.first])
        planes = self._planes(cells, one.first, one.end - one.first)
        function, parameters = self._function(own, one)
        each = one.parameters.shape[1] if one.parameters.ndim > 1 else 0
        at = (f"{tables['counts']} + {one.first}", f"{tables['weights']} + {first}", f"{tables['bias']} + {one.first}")
        fields = f"{planes},\n    {nearest}, {each},\n    {', '.join(at)}, {parameters}, {function}"
        self.structure("sums", own, f"{{\n    {fields}\n}}")
        self.calls.append(f"{kernel}(memory, &{own}, {tables['places']} + {first})")

    def _function(self, own: str, one: Function) -> tuple[str, str]:
        """The names of a function and of its parameters; null pointers for the identity."""
        if is_identity(one.operator, one.parameters.ravel().tolist()):
            return "0", "0"
        if one.operator.name not in self._functions:
            name = f"function_{len(self._functions)}"
            self._functions[one.operator.name] = name, function_of(one.operator, name)
        return self._functions[one.operator.name][0], self.table(f"parameters_of_{own}", one.parameters.ravel())

    def _scale(self, number: int, scale: Scale) -> None:
        self.use(kernels.SCALE)
        sources = self.table(f"sources_{number}", self.layout.at(scale.planes).astype(np.uint32))
        gate = int(self.layout.at(planes_of(scale.gate, 1))[0])
        planes = self.structure("planes", f"planes_{number}", self._planes(self.layout.cells[scale.out]))
        self.calls.append(f"scale(memory, &{planes}, {sources}, {gate})")

    def _windows(self, number: int, slide: Slide) -> None:
        source, own = self.layout.cells[int(slide.planes.value[0])], self.layout.cells[slide.out]
        loop, called = kernels.SLIDE, "slide"
        if lies_inside(slide.window, own, source):
            loop, called = inside(slide.window, slide.weights is None, FLOATS)
        self.use(kernels.WINDOWS, loop)
        fields = [
            self._planes(own),
            self.table(f"sources_{number}", self.layout.at(slide.planes).astype(np.uint32)),
            f"{source.height}, {source.width}, {source.pitch}",
            pairs(slide.window),
            self._weights_or_none(number, slide.weights),
        ]
        name = self.structure("windows", f"windows_{number}", f"{{{', '.join(fields)}}}")
        self.calls.append(f"{called}(memory, &{name})")

    def _lists(self, number: int, collect: Collect) -> None:
        self.use(kernels.LISTS, kernels.COLLECT)
        source = self.layout.cells[int(collect.planes.value[0])]
        table = listed(collect, source)
        fields = [
            self._planes(self.layout.cells[collect.out]),
            self.table(f"sources_{number}", self.layout.at(collect.planes).astype(np.uint32)),
            self.table(f"table_{number}", table),
            str(table.shape[1]),
            self._weights_or_none(number, collect.weights),
        ]
        name = self.structure("lists", f"lists_{number}", f"{{{', '.join(fields)}}}")
        self.calls.append(f"collect(memory, &{name})")

    def _weights_or_none(self, number: int, weights: npt.NDArray[np.float64] | None) -> str:
        return "0" if weights is None else self.table(f"weights_{number}", weights.astype(np.float32))

    def _planes(self, cells: Cells, first: int = 0, count: int | None = None) -> str:
        """The structure of some planes of a value."""
        return structure_of_planes(cells, cells.length, first, count)


def _kernel(cells: Cells, bits: int) -> tuple[str, str]:
    """The text and the name of the loop that sums up planes of a kind."""
    if cells.stride == 1:
        return kernels.PIXELS.replace("$BITS", str(bits)), f"sum_pixels_{bits}"
    if cells.length > SMALL:
        return kernels.PLANES.replace("$BITS", str(bits)), f"sum_planes_{bits}"
    return kernels.small_planes(sum(kernels.pieces(cells.length)), bits)
