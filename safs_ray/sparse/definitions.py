"""An operator's own definition, called with symbols in place of tensors."""

from __future__ import annotations

from collections.abc import Sequence

from safs_ray.operators import Operator
from safs_ray.sparse.symbols import NotCompilableError, Symbol
from safs_ray.sparse.vectors import Condition


def applied(operator: Operator, symbols: Sequence[Symbol]) -> Symbol:
    """An operator's value at z, given with its internal parameters.

    Raises:
        NotCompilableError: it does what has no rule.
    """
    try:
        found = operator.function(*symbols)
    except Exception as error:  # a user's function, which may do anything with what is no tensor
        raise NotCompilableError(f"{operator.name}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Symbol) or isinstance(found.value, Condition):
        raise NotCompilableError(f"{operator.name} gives no value")
    return found
