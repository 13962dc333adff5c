"""The operators: the unary functions g of f(x) = alpha * g(beta * x).

``table`` has those that the search may take by name, ``variants`` those that networks bring with settings of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from safs_ray.config import refusal
from safs_ray.operators.operator import Operator
from safs_ray.operators.table import OPERATORS, SYMEXP_BOUND
from safs_ray.operators.variants import described, find_variant
from safs_ray.references import is_reference, resolve

__all__ = ["OPERATORS", "SYMEXP_BOUND", "Operator", "check_names", "find", "lookup"]


@cache
def lookup(name: str, key: str = "operator") -> Operator:
    """The operator of a name: of the table, of a variant, or a user's own function by ``package.module:function``.

    Raises:
        ConfigurationError: naming ``key``, for a name of none of these, and for a function that is not found or is no
            operator.

    Examples:
        >>> lookup("relu").function(torch.tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
        >>> lookup("leaky_relu(0.5)").function(torch.tensor([-1.0, 2.0])).tolist()
        [-0.5, 2.0]
    """
    check_names([name], key)
    if name in OPERATORS:
        return OPERATORS[name]
    operator = find_variant(name) or _of_user(name, resolve(name, key))
    if operator.channels is None and (fault := _fault(operator)):
        raise refusal(key, name, fault)
    return operator


def check_names(names: Sequence[str], key: str) -> None:
    """Refuse names of no operator, without importing those of the user.

    Raises:
        ConfigurationError: naming ``key``, for a name that is neither that of an operator nor a
            ``package.module:function``, or stands twice.
    """
    for index, name in enumerate(names):
        if name in names[:index]:
            raise refusal(key, name, "stands twice")
        if name not in OPERATORS and find_variant(name) is None and not is_reference(name):
            own = "or your own as package.module:function"
            allowed = ", ".join([*OPERATORS, *described(), own])
            raise refusal(key, name, f"unknown operator; allowed: {allowed}")


def find(names: Sequence[str], key: str) -> list[Operator]:
    """The operators of these names.

    Raises:
        ConfigurationError: as :func:`lookup`, for a name that stands twice, and for an operator that goes with one
            number of channels alone.

    Examples:
        >>> [operator.formula for operator in find(["relu", "tanh"], "search.operators")]
        ['max(0, z)', 'tanh(z)']
    """
    check_names(names, key)
    operators = [lookup(name, key) for name in names]
    for operator in operators:
        if operator.channels is not None:
            raise refusal(key, operator.name, f"fits sites of {operator.channels} channels alone; allowed: prelu")
    return operators


POINTS = (0.0, 1e-6, -1e-6, 1.0, -1.0, 10.0, -10.0, 1e4, -1e4)
"""Where a user's function, and its gradient, must be finite."""


def _of_user(name: str, function: Callable[..., Any]) -> Operator:
    """A user's function; those of its arguments whose defaults are floats are its internal parameters."""
    try:
        arguments = list(inspect.signature(function).parameters.values())[1:]
    except ValueError:  # functions written in C++, such as torch.erf, do not tell their signatures
        arguments = []
    parameters = {argument.name: argument.default for argument in arguments if isinstance(argument.default, float)}

    def with_parameters(z: Tensor, *values: Tensor) -> Any:
        return function(z, **dict(zip(parameters, values, strict=True)))

    return Operator(name, with_parameters, f"{name}(z)", "the user", parameters)


def _fault(operator: Operator) -> str | None:
    """Why a user's function is no operator; None where it is one."""
    with torch.inference_mode(False), torch.enable_grad():
        z = torch.tensor(POINTS, device="cpu").reshape(1, 3, 3, 1).requires_grad_()
        arguments = [z, *(torch.tensor(value, device="cpu").requires_grad_() for value in operator.parameters.values())]
        try:
            value = operator.function(*arguments)
            if not isinstance(value, Tensor) or value.shape != z.shape or value.dtype != z.dtype:
                return "must map a float tensor to a float tensor of the same shape"
            if not value.requires_grad:
                return "has no gradient"
            gradients = torch.autograd.grad(value.sum(), arguments, allow_unused=True, materialize_grads=True)
            alone = torch.cat([operator.function(point.reshape(1, 1, 1, 1), *arguments[1:]) for point in z.flatten()])
        except (Exception, SystemExit) as error:  # the user's function runs, and may raise anything
            tensors = f" and tensors for {', '.join(operator.parameters)}" if operator.parameters else ""
            return f"fails on a tensor (1, 3, 3, 1){tensors}: {type(error).__name__}: {error}"
    finite = value.isfinite() & gradients[0].isfinite()
    if not finite.all():
        return f"is not finite, or its gradient is not, at {z[~finite][0]:g}; must be for z from -1e4 to 1e4"
    if not all(gradient.isfinite() for gradient in gradients[1:]):
        return "has a parameter whose gradient is not finite; must be for z from -1e4 to 1e4"
    if not torch.allclose(value.flatten(), alone.flatten(), rtol=1e-4, atol=1e-6):
        return "must work element by element, the same way every time"
    if not gradients[0].any():
        return "has a gradient of 0 everywhere"
    return None
