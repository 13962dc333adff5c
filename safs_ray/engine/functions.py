"""Functions of sites as LLVM code: f(x) = alpha g(beta x) of many numbers, and zeros between planes."""

from __future__ import annotations

from safs_ray.engine.code import FLOAT, INDEX, Code, Value, vector, word
from safs_ray.operators import Operator
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.operators import applied
from safs_ray.sparse.symbols import Symbol
from safs_ray.sparse.vectors import Vector


def function_code(operator: Operator) -> str:
    """The code of ``apply(out, source, mask, parameters, count)``, for addresses of arrays of numbers.

    It writes f of the source where the mask has bits, else 0. ``parameters`` are alpha, beta and the operator's own.
    It may read, not write, a vector beyond the count.

    Raises:
        NotCompilableError: the operator does what has no rule.
    """
    code = Code("apply", 5)
    out, source, mask, parameters, count = code.words
    alpha, beta, *internal = (
        Vector(code.builder, code.spread(code.load(FLOAT, parameters, number), LANES))
        for number in range(2 + len(operator.parameters))
    )

    def value(index: Value) -> Value:
        x = Vector(code.builder, code.load(vector(LANES), source, index))
        given = applied(operator, [Symbol(each, ()) for each in (beta * x, *internal)])
        bits = code.builder.bitcast((alpha * given.value).bits, vector(LANES, INDEX))
        kept = code.builder.and_(bits, code.load(vector(LANES, INDEX), mask, index))
        return code.builder.bitcast(kept, vector(LANES))

    whole = code.builder.and_(count, word(-LANES))
    with code.loop(0, whole, LANES) as index:
        code.store(value(index), out, index)
    with code.loop(whole, count, LANES) as index:
        code.store_where(code.below(index, count, LANES), value(index), out, index)
    return code.finished()
