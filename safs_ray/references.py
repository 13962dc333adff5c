"""A user's own functions, named in a configuration as ``package.module:function``.

These names are the only code that a configuration can reach.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from safs_ray.config import refusal
from safs_ray.config.names import REFERENCE

FORBIDDEN = {*sys.stdlib_module_names, "__main__", "safs_ray"}
"""Modules that hold nothing for a configuration, but functions such as os.abort."""

MEMORY = "memory"
"""What stands for a module in the names of functions that were lent."""


def is_reference(name: str) -> bool:
    """Whether a name has the form ``package.module:function``.

    Examples:
        >>> is_reference("mine:network"), is_reference("lenet5")
        (True, False)
    """
    return bool(REFERENCE.fullmatch(name))


_LENT: dict[str, Callable[..., Any]] = {}


def lend(function: Callable[..., Any], name: str) -> str:
    """A name by which this process, and no other, finds a function that has no module of its own.

    Args:
        name: a word that people may see.
    """
    reference = f"{MEMORY}:{name}_{len(_LENT) + 1}"
    _LENT[reference] = function
    return reference


def is_lent(name: str) -> bool:
    """Whether a name is of a function that was lent."""
    return name.startswith(f"{MEMORY}:")


def resolve(name: str, key: str) -> Callable[..., Any]:
    """The function of that name; its module is imported from the working directory or an installed package.

    Raises:
        ConfigurationError: naming ``key``, when the module cannot be imported or has no such function, or is Python's
            or safs_ray's own.
    """
    if not is_reference(name):
        raise refusal(key, name, "must be package.module:function")
    if name in _LENT:
        return _LENT[name]
    path, _, attribute = name.partition(":")
    if is_lent(name):
        raise refusal(
            key, name, "was an object in memory, of a process that has ended; allowed: a function of a module"
        )
    if path.partition(".")[0] in FORBIDDEN:
        raise refusal(key, name, f"{path} is Python's or safs_ray's own; allowed: modules of yours or installed ones")
    try:
        function = getattr(importlib.import_module(path), attribute, None)
    except (Exception, SystemExit) as error:  # the user's module runs, and may raise anything
        raise refusal(key, name, f"{path} cannot be imported ({type(error).__name__}: {error})") from None
    if not callable(function):
        raise refusal(key, name, f"{path} has no function {attribute}")
    return function  # type: ignore[no-any-return]
