"""A user's own network: what ``package.module:function`` returns."""

from __future__ import annotations

import copy
import inspect

from torch import nn

from safs_ray.config import ConfigurationError, refusal
from safs_ray.dropout import hold_in_evaluation, switch_off
from safs_ray.models.specification import Specification
from safs_ray.references import resolve


def build(specification: Specification) -> nn.Module:
    """A copy of the module that the user's function makes, without dropout, in training mode.

    Raises:
        ConfigurationError: as :func:`fresh_copy`.
    """
    module = fresh_copy(specification)
    switch_off(module)
    hold_in_evaluation(module, specification.example())
    return module.train()


def fresh_copy(specification: Specification) -> nn.Module:
    """A copy of the module that the user's function makes, uncompiled: it may return the same one every time.

    Raises:
        ConfigurationError: as :func:`original`, or the module cannot be copied.
    """
    module = original(specification)
    try:
        return _uncompiled(copy.deepcopy(module))
    except Exception as error:  # of whatever the module holds beside tensors
        raise refused(specification, f"cannot be copied ({type(error).__name__}: {error})") from None


def original(specification: Specification) -> nn.Module:
    """The module that the user's function returns.

    The function is called with those of the keywords channels, size and classes that it takes.

    Raises:
        ConfigurationError: there is no such function, it fails, or it returns no module.
    """
    function = resolve(specification.model, "model.name")
    images = {"channels": specification.channels, "size": specification.size, "classes": specification.classes}
    try:
        parameters = inspect.signature(function).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        module = function(**{name: value for name, value in images.items() if takes_all or name in parameters})
    except (Exception, SystemExit) as error:  # the user's function runs, and may raise anything
        raise refused(specification, f"fails ({type(error).__name__}: {error})") from None
    if not isinstance(module, nn.Module):
        raise refused(specification, f"must return a torch.nn.Module, returns {type(module).__name__}")
    return module


def _uncompiled(module: nn.Module) -> nn.Module:
    """The module without torch.compile, whose code is the same and has no sites."""
    module = _without_compile(module)
    for path, child in list(module.named_modules()):
        if child is not (original := _without_compile(child)):
            module.set_submodule(path, original)
    for child in module.modules():
        child._compiled_call_impl = None  # what Module.compile() sets
    return module


def _without_compile(module: nn.Module) -> nn.Module:
    """What torch.compile was given to make this module."""
    inner = getattr(module, "_orig_mod", None)
    return _without_compile(inner) if isinstance(inner, nn.Module) else module


def refused(specification: Specification, reason: str) -> ConfigurationError:
    """The error of a network that cannot be used."""
    return refusal("model.name", specification.model, reason)
