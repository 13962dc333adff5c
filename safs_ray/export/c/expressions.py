"""Operators as C: their own definitions, called with expressions in place of tensors.

An expression stands where the rules of :mod:`safs_ray.sparse.symbols` expect a vector of float64, whose exponentials
and the like are functions of the C library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from safs_ray.operators import Operator
from safs_ray.sparse.definitions import applied
from safs_ray.sparse.symbols import Symbol


@dataclass(frozen=True, eq=False)
class Expression:
    """A value of C.

    Attributes:
        form: its text, with a pair of braces for each of its terms.
        kind: its type, ``float``, or ``int`` for a truth value.
    """

    single: ClassVar[bool] = False
    form: str
    terms: tuple[Expression, ...] = ()
    kind: str = "float"

    def of(self, number: Any) -> Expression:
        """A number as an expression."""
        return number if isinstance(number, Expression) else Expression(literal(number))

    def _with(self, form: str, *others: Any, kind: str = "float") -> Expression:
        return Expression(form, (self, *(self.of(each) for each in others)), kind)

    def __add__(self, other: Any) -> Expression:
        return self._with("{} + {}", other)

    def __sub__(self, other: Any) -> Expression:
        return self._with("{} - {}", other)

    def __mul__(self, other: Any) -> Expression:
        return self._with("{} * {}", other)

    def __truediv__(self, other: Any) -> Expression:
        return self._with("{} / {}", other)

    def __radd__(self, other: Any) -> Expression:
        return self.of(other) + self

    def __rsub__(self, other: Any) -> Expression:
        return self.of(other) - self

    def __rmul__(self, other: Any) -> Expression:
        return self.of(other) * self

    def __rtruediv__(self, other: Any) -> Expression:
        return self.of(other) / self

    def __neg__(self) -> Expression:
        return self._with("-{}")

    def __and__(self, other: Expression) -> Expression:
        return self._with("{} & {}", other, kind="int")

    def compared(self, sign: str, other: Any) -> Expression:
        return self._with(f"{{}} {sign} {{}}", other, kind="int")

    def where(self, one: Any, other: Any) -> Expression:
        """A choice by this truth value: compilers make a vector's selection of it."""
        return self._with("{} ? {} : {}", one, other)

    def least(self, bound: float) -> Expression:
        return self if math.isinf(bound) else self.compared("<", bound).where(bound, self)

    def most(self, bound: float) -> Expression:
        return self if math.isinf(bound) else self.compared(">", bound).where(bound, self)

    def magnitude(self) -> Expression:
        return self.by_lane("fabs")

    def by_lane(self, name: str) -> Expression:
        """A function of math.h."""
        return self._with(f"{name}f({{}})")


def literal(number: float) -> str:
    """A number as C's float, which has the same bits."""
    text = f"{number:.9g}"
    return f"({text}f)" if any(sign in text for sign in ".e") else f"({text}.0f)"


def function_of(operator: Operator, name: str) -> str:
    """The C function of an operator: f(x) = alpha g(beta x) of so many values, in place.

    Raises:
        NotCompilableError: the operator does what has no rule.
    """
    names = ("alpha", "beta", *operator.parameters)
    alpha, beta, *internal = (Expression(f"parameters[{place}]") for place in range(len(names)))
    z = beta * Expression("values[i]")
    found = applied(operator, [Symbol(each, ()) for each in (z, *internal)])
    lines = [f"        const {kind} {own} = {text};" for kind, own, text in _statements(alpha * found.value)]
    return f"""/* {operator.name}: {", ".join(names)} are its parameters. */
static void {name}(float *restrict values, size_t count, const float *restrict parameters)
{{
    for (size_t i = 0; i < count; i++) {{
{chr(10).join(lines)}
        values[i] = t{len(lines)};
    }}
}}
"""


def _statements(result: Expression) -> Iterator[tuple[str, str, str]]:
    """The type, the name and the text of each value that a result needs, in an order in which they are known."""
    names: dict[Expression, str] = {}
    for each in _needed(result, set()):
        text = each.form.format(*(names[term] for term in each.terms))
        if each.terms:
            names[each] = f"t{sum(bool(known.terms) for known in names) + 1}"
            yield each.kind, names[each], text
        else:
            names[each] = text


def _needed(one: Expression, known: set[Expression]) -> Iterator[Expression]:
    for term in one.terms:
        yield from _needed(term, known)
    if one not in known:
        known.add(one)
        yield one


def is_identity(operator: Operator, parameters: Sequence[float]) -> bool:
    """Whether f(x) = x."""
    return operator.name == "linear" and all(each == 1 for each in parameters)
