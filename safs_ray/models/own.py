"""A user's own network: what ``package.module:function`` returns."""

from __future__ import annotations

import inspect
import logging

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune

from safs_ray.config import ConfigurationError, counted, refusal
from safs_ray.models.specification import Specification
from safs_ray.randomness import generator
from safs_ray.references import resolve

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)

log = logging.getLogger("safs_ray")


def build(specification: Specification) -> nn.Module:
    """The module that the user's function makes, without dropout, in training mode.

    The function is called with those of the keywords channels, size and classes that it takes.

    Raises:
        ConfigurationError: there is no such function, it fails, or it returns no module.
    """
    module = _made(specification)
    for layer in _dropouts(module).values():
        layer.p = 0.0  # type: ignore[assignment]  # it would draw from the global generator: no run could be repeated
    return module.train()


def check(specification: Specification) -> None:
    """Try a user's network on two images, forward and back, so that one that cannot be used is refused before any work.

    Says which dropout it is used without.

    Raises:
        ConfigurationError: it does not map two images to finite logits (2, classes), draws random numbers in
            training, or has weights that are not plain parameters, or frozen.
    """
    with torch.random.fork_rng(devices=[]):
        _check_layers(specification, _made(specification))
        images = torch.rand(specification.example().shape, generator=generator(0, "two images"))
        module = build(specification)
        before = torch.get_rng_state()
        for training in (True, False):
            with torch.set_grad_enabled(training):
                _check_logits(specification, module.train(training), images)
        if not torch.equal(torch.get_rng_state(), before):
            drawing = "draws random numbers in training, as stochastic depth and dropout within attention do"
            raise _refusal(specification, f"{drawing}; turn that off, for no run could be repeated")


def _made(specification: Specification) -> nn.Module:
    function = resolve(specification.model, "model.name")
    images = {"channels": specification.channels, "size": specification.size, "classes": specification.classes}
    try:
        parameters = inspect.signature(function).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        module = function(**{name: value for name, value in images.items() if takes_all or name in parameters})
    except (Exception, SystemExit) as error:  # the user's function runs, and may raise anything
        raise _refusal(specification, f"fails ({type(error).__name__}: {error})") from None
    if not isinstance(module, nn.Module):
        raise _refusal(specification, f"must return a torch.nn.Module, returns {type(module).__name__}")
    return module


def _check_layers(specification: Specification, module: nn.Module) -> None:
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise _refusal(specification, "has lazy layers; give them their sizes")
    if frozen := [name for name, parameter in module.named_parameters() if not parameter.requires_grad]:
        raise _refusal(
            specification, f"freezes {frozen[0]}; let it be trained, for every weight is, or make it a buffer"
        )
    if prune.is_pruned(module) or any(map(parametrize.is_parametrized, module.modules())):
        plain = "return the plain network, and give what is pruned as model.weights with model.pruned=true"
        raise _refusal(specification, f"computes weights from other parameters; {plain}")
    if dropouts := _dropouts(module):
        log.warning("model.name=%s: used without dropout (%s)", specification.model, ", ".join(dropouts))


def _check_logits(specification: Specification, module: nn.Module, images: Tensor) -> None:
    count, shape = len(images), "x".join(map(str, images.shape[1:]))
    try:
        logits = module(images)
        if isinstance(logits, Tensor) and torch.is_grad_enabled():
            logits.sum().backward()  # type: ignore[no-untyped-call]
    except (Exception, SystemExit) as error:  # the user's network runs, and may raise anything
        reason = f"fails on {counted(count, 'image')} of {shape} ({type(error).__name__}: {error})"
        raise _refusal(specification, reason) from None
    if not isinstance(logits, Tensor):
        raise _refusal(specification, f"must return logits (N, classes), returns {type(logits).__name__}")
    if logits.shape != (count, specification.classes):
        wanted = f"must return logits {(count, specification.classes)} for {counted(count, 'image')} of {shape}"
        raise _refusal(specification, f"{wanted}, returns {tuple(logits.shape)}")
    if not logits.isfinite().all():
        raise _refusal(specification, "returns logits that are NaN or infinite")


def _dropouts(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of dropout that do something."""
    return {name: child for name, child in module.named_modules() if isinstance(child, DROPOUT) and child.p > 0}


def _refusal(specification: Specification, reason: str) -> ConfigurationError:
    return refusal("model.name", specification.model, reason)
