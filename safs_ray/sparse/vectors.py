"""Vectors of numbers in code that is being generated, and their elementary functions.

In float32 the functions are polynomials, some roundings from exact, that a processor runs on all lanes at once. In
float64, which serves to check, and for what has no polynomial here, every lane calls the C library's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

FAST = ("contract",)
"""A product and a sum may be rounded once."""


@dataclass(frozen=True)
class Condition:
    """Truth values of what was said of a vector."""

    bits: ir.Value
    vector: Vector

    def where(self, one: Vector | float, other: Vector | float) -> Vector:
        """``one`` in the lanes that are true, ``other`` in those that are not."""
        builder, of = self.vector.builder, self.vector.of
        return Vector(builder, builder.select(self.bits, of(one).bits, of(other).bits))

    def __and__(self, other: Condition) -> Condition:
        return Condition(self.vector.builder.and_(self.bits, other.bits), self.vector)


@dataclass(frozen=True)
class Vector:
    """A vector of float32 or float64; a number beside one in arithmetic stands for a vector of it."""

    builder: ir.IRBuilder
    bits: ir.Value

    @property
    def single(self) -> bool:
        """Whether it is of float32."""
        return isinstance(self.bits.type.element, ir.FloatType)

    @property
    def lanes(self) -> int:
        return int(self.bits.type.count)

    def of(self, number: Vector | float) -> Vector:
        """A number in every lane, as a vector like this one."""
        if isinstance(number, Vector):
            return number
        return Vector(self.builder, ir.Constant(self.bits.type, [float(number)] * self.lanes))

    def __add__(self, other: Vector | float) -> Vector:
        return Vector(self.builder, self.builder.fadd(self.bits, self.of(other).bits, FAST))

    def __sub__(self, other: Vector | float) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.bits, self.of(other).bits, FAST))

    def __mul__(self, other: Vector | float) -> Vector:
        return Vector(self.builder, self.builder.fmul(self.bits, self.of(other).bits, FAST))

    def __truediv__(self, other: Vector | float) -> Vector:
        return Vector(self.builder, self.builder.fdiv(self.bits, self.of(other).bits))

    def __radd__(self, other: float) -> Vector:
        return self.of(other) + self

    def __rsub__(self, other: float) -> Vector:
        return self.of(other) - self

    def __rmul__(self, other: float) -> Vector:
        return self.of(other) * self

    def __rtruediv__(self, other: float) -> Vector:
        return self.of(other) / self

    def __neg__(self) -> Vector:
        return Vector(self.builder, self.builder.fneg(self.bits))

    def compared(self, sign: str, other: Vector | float) -> Condition:
        """Whether each lane is ``sign``, such as "<", to the other's; false where either is NaN, but for "!="."""
        compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return Condition(compare(sign, self.bits, self.of(other).bits), self)

    def least(self, bound: float) -> Vector:
        """No less than the bound; NaN stays."""
        return self.compared("<", bound).where(bound, self)

    def most(self, bound: float) -> Vector:
        """No more than the bound; NaN stays."""
        return self.compared(">", bound).where(bound, self)

    def magnitude(self) -> Vector:
        return self.compared("<", 0).where(-self, self)

    def polynomial(self, coefficients: Sequence[float]) -> Vector:
        """Of this value, by Horner's rule; the highest power's coefficient comes first."""
        total = self.of(coefficients[0])
        for coefficient in coefficients[1:]:
            total = total * self + coefficient
        return total

    def by_lane(self, name: str) -> Vector:
        """A function of the C library, by its name for float64, of every lane."""
        element = self.bits.type.element
        kind = ir.FunctionType(element, [element])
        module, called = self.builder.module, f"{name}f" if self.single else name
        function = module.globals.get(called) or ir.Function(module, kind, called)
        result = ir.Constant(self.bits.type, ir.Undefined)
        for lane in range(self.lanes):
            index = ir.Constant(ir.IntType(32), lane)
            value = self.builder.call(function, [self.builder.extract_element(self.bits, index)])
            result = self.builder.insert_element(result, value, index)
        return Vector(self.builder, result)


_LN2_HIGH = 0.693145751953125
_LN2_LOW = math.log(2) - _LN2_HIGH
"""ln 2 in two parts: the first times a whole number is exact in float32."""

_EXP = [1 / math.factorial(power) for power in range(7, 1, -1)]
"""(exp(r) - 1 - r) / r²: for |r| up to ln(2) / 2 float32 tells no further power."""

_LOG = [2 / power for power in range(11, 0, -2)]
"""log((1 + s) / (1 - s)) / s in powers of s², enough for s² up to 0.03."""

_ERFC = [
    -0.0555066332, 0.367785307, -0.952558891, 1.08951931, -0.457691944, 0.497370678, 0.221164178, 0.29039841,
    -0.000480416149,
]  # fmt: skip
"""(1 - erf(x)) exp(x²) for x >= 0 in powers of 1 / (1 + x / 2), by least squares weighted by exp(-x²)."""


def exp(x: Vector) -> Vector:
    """e**x; below 1e-38 for x under -88, infinite above 88.7."""
    if not x.single:
        return x.by_lane("exp")
    exponent, rest = _reduced(x.least(-88.0).most(89.0))
    half = _whole(exponent * 0.5)  # 2**128 is no number: it is multiplied with in two steps
    return (rest + 1) * _power_of_two(half) * _power_of_two(exponent - half)


def expm1(x: Vector) -> Vector:
    """e**x - 1, exact to the last bits near 0 too; in float32 no more than 2**127."""
    if not x.single:
        return x.by_lane("expm1")
    exponent, rest = _reduced(x.least(-60.0).most(88.0))
    power = _power_of_two(exponent)
    return rest * power + (power - 1)


def log1p(x: Vector) -> Vector:
    """ln(1 + x); NaN for x of -1 and less."""
    if not x.single:
        return x.by_lane("log1p")
    near = x + 1
    found = _log(near) + (x - (near - 1)) / near
    return near.compared(">", 0).where(found, math.nan)


def tanh(x: Vector) -> Vector:
    if not x.single:
        return x.by_lane("tanh")
    grown = expm1((x.magnitude() * 2).most(30.0))
    return signed(grown / (grown + 2), x)


def sigmoid(x: Vector) -> Vector:
    """1 / (1 + e**-x)."""
    return 1 / (exp(-x) + 1)


def softplus_and_sigmoid(x: Vector) -> tuple[Vector, Vector]:
    """ln(1 + e**x) and its derivative, of one exponential."""
    decay = exp(-x.magnitude())
    return x.least(0) + log1p(decay), x.compared("<", 0).where(decay, 1) / (decay + 1)


def erf_and_decay(x: Vector) -> tuple[Vector, Vector]:
    """erf(x) and e**(-x²), of one exponential; in float32 the second is that of 10 for larger |x|, nearly 0."""
    if not x.single:
        return x.by_lane("erf"), exp(-x * x)
    size = x.magnitude().most(10.0)
    decay = exp(-size * size)
    return signed(1 - (1 / (size * 0.5 + 1)).polynomial(_ERFC) * decay, x), decay


def signed(size: Vector, x: Vector) -> Vector:
    """A size with the sign of x."""
    return x.compared("<", 0).where(-size, size)


def _reduced(x: Vector) -> tuple[Vector, Vector]:
    """n and e**r - 1 with x = n ln 2 + r, |r| <= ln(2) / 2."""
    exponent = _whole(x * (1 / math.log(2)))
    rest = x - exponent * _LN2_HIGH - exponent * _LN2_LOW
    return exponent, rest + rest * rest * rest.polynomial(_EXP)


def _whole(x: Vector) -> Vector:
    """Rounded to a whole number, for |x| below 2**21: the last bit of the sum is worth 1."""
    builder, shift = x.builder, x.of(1.5 * 2**23).bits
    return Vector(builder, builder.fsub(builder.fadd(x.bits, shift), shift))


def _power_of_two(exponent: Vector) -> Vector:
    """2**n for whole n from -126 to 127: n with its bias stands above the fraction's 23 bits."""
    builder = exponent.builder
    integers = _integers(exponent)
    whole = builder.fptosi(exponent.least(-126).most(127).bits, integers)
    bits = builder.shl(builder.add(whole, integers([127] * exponent.lanes)), integers([23] * exponent.lanes))
    return Vector(builder, builder.bitcast(bits, exponent.bits.type))


def _log(x: Vector) -> Vector:
    """ln x for x above 0: x = 2**n m with m from 1/sqrt(2) to sqrt(2)."""
    builder = x.builder
    integers = _integers(x)
    bits = builder.bitcast(x.bits, integers)
    # Less the bits of 1/sqrt(2), the exponent counts from there, and the rest is how far m is above it.
    above = builder.sub(bits, integers([_ROOT_OF_HALF] * x.lanes))
    fraction = integers([23] * x.lanes)
    exponent = builder.ashr(above, fraction)
    of_m = builder.sub(bits, builder.shl(exponent, fraction))
    m = Vector(builder, builder.bitcast(of_m, x.bits.type))
    n = Vector(builder, builder.sitofp(exponent, x.bits.type))
    s = (m - 1) / (m + 1)
    return n * _LN2_HIGH + (s * (s * s).polynomial(_LOG) + n * _LN2_LOW)


_ROOT_OF_HALF = 0x3F3504F3
"""The bits of 1/sqrt(2) in float32."""


def _integers(like: Vector) -> ir.VectorType:
    """The type of as many whole numbers."""
    return ir.VectorType(ir.IntType(32), like.lanes)
