"""The functions and tables in C of a network in 8-bit integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from safs_ray.engine.layout import Cells, Layout
from safs_ray.engine.passes import Collect, Slide, Weigh, planes_of
from safs_ray.export.c import integer_kernels as kernels
from safs_ray.export.c.tables import Tables, array, listed, pairs, structure_of_planes, type_of_counts
from safs_ray.export.c.windows import INTEGERS, inside, lies_inside
from safs_ray.export.int8.integers import (
    LEAST,
    LOGIT_BITS,
    PIXEL_BITS,
    IntegerPass,
    IntegerProgram,
    Largest,
    Levelling,
    Logits,
    Means,
    Part,
    Pixels,
    Products,
    Sums,
)

STRUCTURES = (kernels.SUMS, kernels.WINDOWS, kernels.LISTS, kernels.PRODUCTS)


class IntegerSource(Tables):
    """Writes the functions and tables that a program needs.

    Attributes:
        memory: how many bytes a call works on.
    """

    def __init__(self, program: IntegerProgram) -> None:
        super().__init__(Layout(program.geometry, slack=0))
        self._program = program
        self.memory = self.layout.size
        self._number = "uint16" if self.memory < 1 << 16 else "uint32"
        self._count = type_of_counts([each.weigh for each in program.passes if isinstance(each, Sums | Logits)])
        self.use(kernels.FILL, kernels.CLEAR)
        for number, one in enumerate(program.passes):
            self._write(number, one)

    def text(self, includes: Sequence[str], interface: str) -> str:
        """The whole file; the arguments are those of :meth:`safs_ray.export.c.source.Source.text`."""
        widest = max(value.width for value in self._program.values)
        return "\n".join([
            *(f"#include {each}" for each in includes),
            "",
            f"typedef {self._number}_t network_number;",
            f"typedef {self._count.name}_t network_count;",
            *([f"enum {{ WIDEST = {widest} }};"] if kernels.SLIDE_MEAN in self.kernels else []),
            kernels.STRUCTURES,
            *(each for each in STRUCTURES if each in self.kernels),
            *(each for each in self.kernels if each not in (*STRUCTURES, self._read)),
            *self.texts,
            self._read,
            "static void run(int8_t *memory, int32_t *logits)",
            "{",
            *(f"    {call};" for call in self.calls),
            "}",
            interface,
        ])  # fmt: skip

    def _write(self, number: int, one: IntegerPass) -> None:
        match one:
            case Pixels():
                self._pixels(one)
            case Sums(weigh):
                self._sums(number, one)
            case Logits(weigh, factors):
                at = self._terms(number, weigh, factors)
                bits = at["bits"]
                self.use(kernels.SUMS, *(each.replace("$BITS", bits) for each in (kernels.PIXEL, kernels.LOGITS)))
                name = self._part(f"sums_{number}", weigh, at, Part(0, len(weigh.bias), Levelling(LOGIT_BITS), None))
                self.calls.append(f"sum_logits_{bits}(memory, &{name}, {at['places']}, logits)")
            case Products():
                self._products(number, one)
            case Largest(windows):
                self._windows(number, windows, "0", LEAST, Levelling(1))
            case Means(windows, zero, factors, levelling):
                table = self.table(f"factors_{number}", factors.astype(np.uint16))
                self._windows(number, windows, table, zero, levelling)

    def _pixels(self, pixels: Pixels) -> None:
        exact = pixels.factor == 1 << PIXEL_BITS
        rounded = f"((uint32_t)*pixels++ * {pixels.factor} + {1 << (PIXEL_BITS - 1)}) >> {PIXEL_BITS}"
        self._read = kernels.READ.replace("$LEVEL", "*pixels++" if exact else f"(int32_t)({rounded})")
        self.texts.append(array("int16_t", "summands", [each + LEAST for each in pixels.summands]))
        self.structure("planes", "images", self._planes(pixels.read.out))

    def _sums(self, number: int, sums: Sums) -> None:
        at = self._terms(number, sums.weigh, sums.factors)
        bits, cells = at["bits"], self.layout.cells[sums.weigh.out]
        small = cells.stride == 1
        loops = [kernels.PIXEL, kernels.PIXELS] if small else [kernels.FINISH, kernels.PLANES]
        self.use(kernels.SUMS, kernels.LEVEL, kernels.NUMBER)
        self.use(*(each.replace("$BITS", bits).replace("$PIECE", str(kernels.PIECE)) for each in loops))
        for place, part in enumerate(sums.parts):
            name = self._part(f"sums_{number}_{place}", sums.weigh, at, part)
            places = f"{at['places']} + {sums.weigh.starts[part.first]}"
            self.calls.append(f"sum_{'pixels' if small else 'planes'}_{bits}(memory, &{name}, {places})")

    def _terms(self, number: int, weigh: Weigh, factors: np.ndarray) -> Mapping[str, str]:
        """The names of the tables of sums, the nearest place, and the bits of a place."""
        places, nearest, bits = self.places(weigh.terms)
        return {
            "counts": self.table(f"counts_{number}", np.diff(weigh.starts).astype(self._count), "network_count"),
            "weights": self.table(f"weights_{number}", weigh.weights.astype(np.int8)),
            "bias": self.table(f"bias_{number}", weigh.bias.astype(np.int32)),
            "factors": self.table(f"factors_{number}", factors.astype(np.uint16)),
            "places": self.table(f"places_{number}", places),
            "nearest": str(nearest),
            "bits": str(bits),
        }

    def _part(self, name: str, weigh: Weigh, at: Mapping[str, str], part: Part) -> str:
        """The structure of the channels that have one function."""
        function = "0" if part.table is None else self.table(f"function_of_{name}", part.table.astype(np.int8))
        firsts = {"counts": part.first, "weights": weigh.starts[part.first], "bias": part.first, "factors": part.first}
        tables = ", ".join(f"{at[table]} + {first}" for table, first in firsts.items())
        planes = self._planes(weigh.out, part.first, part.end - part.first)
        fields = f"{planes}, {part.levelling.shift}, {at['nearest']},\n    {tables}, {function}"
        return self.structure("sums", name, f"{{\n    {fields}\n}}")

    def _products(self, number: int, products: Products) -> None:
        self.use(kernels.PRODUCTS, kernels.LEVEL, kernels.SCALE)
        scale, (zero, gate_zero), levelling = products.scale, products.zeros, products.levelling
        sources = self.table(f"sources_{number}", self.layout.at(scale.planes).astype(self._number))
        gate = int(self.layout.at(planes_of(scale.gate, 1))[0])
        fields = [zero, gate_zero, levelling.shift, levelling.first, products.factor, gate, sources]
        whole = f"{{{self._planes(scale.out)}, {', '.join(map(str, fields))}}}"
        self.calls.append(f"scale(memory, &{self.structure('products', f'products_{number}', whole)})")

    def _windows(self, number: int, one: Slide | Collect, factors: str, zero: int, levelling: Levelling) -> None:
        sources = self.table(f"sources_{number}", self.layout.at(one.planes).astype(self._number))
        begin = f"{self._planes(one.out)}, {zero}, {levelling.shift}, {levelling.first}, {sources}, {factors}"
        source = self.layout.cells[int(one.planes.value[0])]
        self.use(*([] if factors == "0" and isinstance(one, Slide) else [kernels.LEVEL]))
        if isinstance(one, Collect):
            self.use(kernels.LISTS, kernels.COLLECT)
            places = listed(one, source)
            table = self.table(f"table_{number}", places)
            name = self.structure("lists", f"lists_{number}", f"{{{begin}, {table}, {places.shape[1]}}}")
            self.calls.append(f"collect(memory, &{name})")
            return
        loop, called = kernels.SLIDES[factors == "0"]
        if lies_inside(one.window, self.layout.cells[one.out], source):
            loop, called = inside(one.window, factors == "0", INTEGERS)
        self.use(kernels.WINDOWS, loop)
        fields = f"{begin},\n    {source.height}, {source.width}, {source.pitch}, {pairs(one.window)}"
        name = self.structure("windows", f"windows_{number}", f"{{\n    {fields}\n}}")
        self.calls.append(f"{called}(memory, &{name})")

    def _planes(self, value: int, first: int = 0, count: int | None = None) -> str:
        """The structure of some planes of a value."""
        cells = self.layout.cells[value]
        return structure_of_planes(cells, _length(cells), first, count, self._program.around[value])


def _length(cells: Cells) -> int:
    """From the first pixel of a plane to its last."""
    return (cells.height - 1) * cells.pitch + cells.width
