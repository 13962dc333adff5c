"""Writing LLVM code: functions over addresses and numbers, with loops and vectors of float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

WORD, INDEX, BYTE, FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.FloatType()
CONTRACT = ("contract",)
"""A product and a sum may be rounded once."""

Value = Any
"""What llvmlite knows as a value of code."""


def vector(lanes: int, element: ir.Type = FLOAT) -> ir.Type:
    """The type of so many numbers side by side; of one, the number's own."""
    return ir.VectorType(element, lanes) if lanes > 1 else element


def constant(number: float, lanes: int = 1) -> ir.Constant:
    """A number in every lane."""
    return ir.Constant(vector(lanes), [float(number)] * lanes if lanes > 1 else float(number))


def word(number: int) -> ir.Constant:
    return ir.Constant(WORD, number)


def lane_number(number: int) -> ir.Constant:
    """A lane's number."""
    return ir.Constant(INDEX, number)


class Code:
    """A function of words that is being written, and gives nothing.

    Attributes:
        words: its arguments.
        builder: where instructions are written.
    """

    def __init__(self, name: str, arguments: int) -> None:
        self.module = ir.Module(name=name)
        kind = ir.FunctionType(ir.VoidType(), [WORD] * arguments)
        function = ir.Function(self.module, kind, name)
        self.words: Sequence[Value] = function.args
        self.builder = ir.IRBuilder(function.append_basic_block())

    def finished(self) -> str:
        """The function in LLVM's assembly language."""
        self.builder.ret_void()
        return str(self.module)

    def plus(self, *terms: Value | int) -> Value:
        """The sum of words."""
        total, *others = (word(each) if isinstance(each, int) else each for each in terms)
        for each in others:
            total = self.builder.add(total, each)
        return total

    def times(self, one: Value, other: Value | int) -> Value:
        """The product of words."""
        return self.builder.mul(one, word(other) if isinstance(other, int) else other)

    def least(self, one: Value, other: Value) -> Value:
        """The smaller of two words."""
        return self.builder.select(self.builder.icmp_signed("<", one, other), one, other)

    def load(self, kind: ir.Type, address: Value, index: Value | int = 0, size: int = 4) -> Value:
        """A value of a kind, in an array whose elements have ``size`` bytes, at an element of any alignment."""
        return self.builder.load(self.pointer(kind, address, index, size), align=min(size, 4))

    def store(self, value: Value, address: Value, index: Value | int = 0) -> None:
        """Write into an array of numbers."""
        self.builder.store(value, self.pointer(value.type, address, index, 4), align=4)

    def store_below(self, end: Value, value: Value, address: Value, index: Value) -> None:
        """Write the lanes of a vector that belong before the element ``end`` of an array."""
        if not isinstance(value.type, ir.VectorType):
            self.store(value, address, index)
            return
        lanes, pointer = value.type.count, self.pointer(value.type, address, index, 4)
        mask = self.below(index, end, lanes)
        kind = ir.FunctionType(ir.VoidType(), [value.type, pointer.type, INDEX, mask.type])
        function = self.declared(f"llvm.masked.store.v{lanes}f32.p0", kind)
        self.builder.call(function, [value, pointer, lane_number(4), mask])

    def clear(self, address: Value, index: Value | int, count: Value) -> None:
        """Write so many zeros into an array of numbers."""
        flag = ir.IntType(1)
        pointer = self.pointer(BYTE, address, index, 4)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, BYTE, WORD, flag])
        function = self.declared("llvm.memset.p0.i64", kind)
        arguments = [pointer, ir.Constant(BYTE, 0), self.times(count, 4), ir.Constant(flag, 0)]
        self.builder.call(function, arguments)

    def index(self, address: Value, index: Value | int) -> Value:
        """A whole number of an array of 32 bits each, as a word."""
        return self.builder.sext(self.load(INDEX, address, index), WORD)

    def far(self, address: Value, index: Value, size: int) -> Value:
        """A whole number, not negative, of an array of as many bytes each, as a word."""
        return self.builder.zext(self.load(ir.IntType(8 * size), address, index, size), WORD)

    def shift(self, address: Value, index: Value | int) -> Value:
        """The address of a number of an array."""
        return self.plus(address, self.times(word(index) if isinstance(index, int) else index, 4))

    def spread(self, number: Value, lanes: int) -> Value:
        """A number in every lane."""
        if lanes == 1:
            return number
        kind = vector(lanes, number.type)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, number, lane_number(0))
        return self.picked(first, undefined, [0] * lanes)

    def picked(self, one: Value, other: Value, lanes: Sequence[int]) -> Value:
        """Lanes of two vectors, counted through both."""
        return self.builder.shuffle_vector(one, other, ir.Constant(vector(len(lanes), INDEX), list(lanes)))

    def below(self, first: Value, end: Value, lanes: int, step: int = 1) -> Value:
        """Whether each word from ``first`` on, every so many, is from 0 to below ``end``; both of 31 bits."""
        low, high = (self.spread(self.builder.trunc(each, INDEX), lanes) for each in (first, end))
        steps = [step * lane for lane in range(lanes)]
        counted = ir.Constant(vector(lanes, INDEX), steps if lanes > 1 else 0)
        return self.builder.icmp_unsigned("<", self.builder.add(low, counted), high)

    def plus_product(self, total: Value, one: Value, other: Value) -> Value:
        """total + one * other, rounded once where the processor can."""
        return self.builder.fadd(total, self.builder.fmul(one, other, CONTRACT), CONTRACT)

    @contextmanager
    def loop(self, begin: Value | int, end: Value, step: int = 1) -> Iterator[Value]:
        """Of a word from ``begin`` to below ``end``."""
        with self.folding(begin, end, [], step) as (index, _, _):
            yield index

    @contextmanager
    def folding(
        self, begin: Value | int, end: Value, start: Sequence[Value], step: int = 1
    ) -> Iterator[tuple[Value, list[Value], list[Value]]]:
        """A loop that carries values along.

        Yields the word, the values of the turn, and a list of the same values: the body puts those of the next turn
        there. After the loop the first list has the values of the last turn.
        """
        builder, before = self.builder, self.builder.block
        head, body, done = (builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(WORD)
        carried = [builder.phi(value.type) for value in start]
        builder.cbranch(builder.icmp_signed("<", index, end), body, done)
        builder.position_at_end(body)
        found = list(carried)
        yield index, carried, found
        for phi, first, last in zip([index, *carried], [begin, *start], [self.plus(index, step), *found], strict=True):
            phi.add_incoming(word(first) if isinstance(first, int) else first, before)
            phi.add_incoming(last, builder.block)
        builder.branch(head)
        builder.position_at_end(done)

    def pointer(self, kind: ir.Type, address: Value, index: Value | int, size: int) -> Value:
        """The pointer to a value of a kind, in an array whose elements have ``size`` bytes."""
        place = word(index * size) if isinstance(index, int) else self.times(index, size)
        return self.builder.inttoptr(self.plus(address, place), kind.as_pointer())

    def declared(self, name: str, kind: ir.FunctionType) -> Value:
        """A function of LLVM or of the C library."""
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)
