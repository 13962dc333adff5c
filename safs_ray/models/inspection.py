"""A user's own network, tried before any work: what cannot be used is refused, what is changed is told of."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune
from torch.overrides import TorchFunctionMode

from safs_ray.activations.kinds import is_plain
from safs_ray.config import counted
from safs_ray.dropout import WithoutDropout, hold_in_evaluation, switch_off
from safs_ray.models.own import fresh_copy, original, refused
from safs_ray.models.specification import Specification
from safs_ray.randomness import generator

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
PLAIN = "return the plain network, and give what is pruned as model.weights with model.pruned=true"

log = logging.getLogger("safs_ray")


def check(specification: Specification, batches: Sequence[int] = (1, 2)) -> None:
    """Try a user's network, forward and back, so that one that cannot be used is refused before any work.

    Says which dropout it is used without.

    Args:
        batches: how many images a batch has in evaluation.

    Raises:
        ConfigurationError: it does not map images to finite logits, draws random numbers, or has weights that are
            not plain parameters, or frozen.
    """
    with torch.random.fork_rng(devices=[]):
        module = original(specification)
        _check_layers(specification, module)
        _tell_of_sharing(specification, module, original(specification))
        network = fresh_copy(specification)
        dropping = copy.deepcopy(network)
        dropouts = switch_off(network)
        held = hold_in_evaluation(network, _images(specification, 2))
        with WithoutDropout():
            _check_kept(specification, dropping, network)
        before = _random_states()
        with WithoutDropout() as without:
            _check_training(specification, network)
            _check_batches(specification, network, batches)
            _check_indices(specification, network)
            if _random_states() != before:
                raise refused(specification, "draws random numbers; turn that off, for no run could be repeated")
            _check_values(specification, network)
        if dropouts or without.dropping:
            names = ", ".join(dict.fromkeys([*dropouts, *without.dropping]))
            log.warning("model.name=%s: used without dropout (%s)", specification.model, names)
        if held:
            names = ", ".join(name or "the network itself" for name in held)
            log.warning("model.name=%s: as in evaluation, without its random numbers: %s", specification.model, names)


@torch.no_grad()
def outputs_of(specification: Specification, module: nn.Module) -> int:
    """How many numbers a module computes for an input.

    Raises:
        ConfigurationError: it fails, or computes no (N, outputs).
    """
    inputs = specification.example()
    try:
        outputs = module.eval()(inputs)
    except Exception as error:  # the user's network runs, and may raise anything
        raise refused(specification, _failing(specification, len(inputs), error)) from None
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or not outputs.numel():
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise refused(specification, f"must return (N, outputs), returns {shape}")
    return outputs.shape[1]


@torch.no_grad()
def _check_kept(specification: Specification, dropping: nn.Module, network: nn.Module) -> None:
    """Refuse a network that computes something else in evaluation once its dropout is switched off."""
    images, before = _images(specification, 2), _random_states()
    first, again, without = (_logits(specification, each.eval(), images) for each in (dropping, dropping, network))
    if _random_states() != before:  # which is refused for what it is
        return
    if torch.equal(first, again) and not torch.allclose(first, without, rtol=1e-4, atol=1e-5, equal_nan=True):
        changed = "computes something else in evaluation when its dropout is switched off; leave the dropout out"
        raise refused(specification, changed)


@torch.no_grad()
def check_extremes(specification: Specification, module: nn.Module, parts: Mapping[str, Tensor]) -> None:
    """Run a network on the inputs with the least and the largest number of every channel, or index.

    An embedding has rows for some numbers alone, and the largest may stand in few inputs.

    Args:
        parts: inputs (N, …) by what they are for.

    Raises:
        ConfigurationError: it fails on one of them.
    """
    for part, inputs in parts.items():
        alone = specification.kind == "int64" or inputs.dim() == 2
        numbers = inputs.flatten(1).unsqueeze(2) if alone else inputs.flatten(2)
        ends = numbers.amax(2).argmax(0), numbers.amin(2).argmin(0)
        rows = torch.tensor(sorted(set(torch.cat(ends).tolist())))
        for some in torch.split(rows, AT_A_TIME):
            if _fault(specification, module, inputs[some]) is None:
                continue
            for row in some.tolist():
                if error := _fault(specification, module, inputs[row : row + 1]):
                    between = f"numbers from {inputs[row].min().item():g} to {inputs[row].max().item():g}"
                    fails = f"fails on row {row} of the {part} inputs, of {between} ({type(error).__name__}: {error})"
                    raise refused(specification, fails)


AT_A_TIME = 64
"""Inputs that are tried together."""


def _fault(specification: Specification, module: nn.Module, inputs: Tensor) -> Exception | None:
    """What a network raises of inputs."""
    with torch.random.fork_rng(devices=[]):
        try:
            module.eval()(specification.normalised(inputs))
        except Exception as error:  # the user's network runs, and may raise anything
            return error
    return None


def _check_training(specification: Specification, module: nn.Module) -> None:
    images = _images(specification, 2)
    logits = _logits(specification, module.train(), images)
    try:
        logits.sum().backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # an operation of the user's own may have no gradient
        raise refused(specification, _failing(specification, len(images), error)) from None


@torch.no_grad()
def _check_batches(specification: Specification, module: nn.Module, batches: Sequence[int]) -> None:
    for count in batches:
        _logits(specification, module.eval(), _images(specification, count))


def _check_indices(specification: Specification, module: nn.Module) -> None:
    """Refuse to normalise numbers that a network takes for indices, or say so: it would look up others.

    It takes them for indices where it makes whole numbers of them. Where it fails below 0 as well, that is sure.
    """
    if specification.kind != "float32":
        return
    fixed = copy.deepcopy(module).requires_grad_(False).eval()
    scales = list(zip(specification.mean, specification.deviation, strict=True))
    for channel in _made_whole(specification, fixed):
        if scales[channel] != (0, 1):
            place = f"{'feature' if len(specification.shape) == 1 else 'channel'} {channel}"
            advice = "data.mean and data.deviation change it; 0 and 1 in its place would not"
            if _fails_below_zero(specification, fixed, channel):
                raise refused(specification, f"takes {place} for indices, as it fails below 0: {advice}")
            log.warning("model.name=%s: makes whole numbers of %s: %s", specification.model, place, advice)


def _made_whole(specification: Specification, fixed: nn.Module) -> list[int]:
    """The channels of whose numbers a network without gradients of its own makes integers."""
    inputs = _images(specification, 2).requires_grad_()
    with torch.enable_grad(), _Casts() as casts:
        fixed(inputs.clone())
    found = torch.zeros(inputs.shape[1], dtype=torch.bool)
    for numbers in casts.taken:
        (gradient,) = torch.autograd.grad(numbers.sum(), inputs, retain_graph=True)
        found |= (gradient != 0).transpose(0, 1).flatten(1).any(1)
    return found.nonzero().flatten().tolist()


class _Casts(TorchFunctionMode):
    """Keeps the numbers with a gradient that integers are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Tensor] = []

    def __torch_function__(
        self, function: Any, _types: Any, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        casts = getattr(function, "__name__", "") in WHOLE and isinstance(result, Tensor)
        if casts and not result.is_floating_point() and result.dtype != torch.bool:
            self.taken += [each for each in arguments[:1] if isinstance(each, Tensor) and each.requires_grad]
        return result


WHOLE = ("long", "int", "short", "char", "byte", "to", "type", "type_as")
"""Methods that may make integers of other numbers."""


@torch.no_grad()
def _fails_below_zero(specification: Specification, module: nn.Module, channel: int) -> bool:
    inputs = specification.example()
    inputs[:, channel] = -3
    try:
        module(inputs)
    except Exception:  # a user's network may raise anything
        return True
    return False


@torch.no_grad()
def _check_values(specification: Specification, module: nn.Module) -> None:
    """What it computes in evaluation, and what its layers do with their weights."""
    images = _images(specification, 2)
    first, again = (_logits(specification, module, images) for _ in range(2))
    if not torch.equal(first, again):
        raise refused(specification, f"computes something else when it is given the same {specification.noun}s again")
    if (first >= 0).all() and torch.allclose(first.sum(1), torch.ones(2), atol=1e-4):
        softmax = "returns probabilities, which add up to 1; the loss takes logits: leave the softmax out"
        log.warning("model.name=%s: %s", specification.model, softmax)
    for path, layer in module.named_modules():
        if isinstance(layer, WEIGHTED) and not is_plain(layer, _kind(layer)):
            _check_weight(specification, module, path, layer)


def _kind(layer: nn.Module) -> type[nn.Module]:
    return next(kind for kind in WEIGHTED if isinstance(layer, kind))


def _check_weight(specification: Specification, module: nn.Module, path: str, layer: nn.Module) -> None:
    """Refuse a layer that computes with another weight than its own, as weight standardisation does.

    Then its output is no linear function of its weight: twice the weight does not give twice the output.
    """
    taken: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].clone()))
    module(_images(specification, 2))
    hook.remove()
    if not taken:
        return
    own, outputs = copy.deepcopy(layer), []
    for factor in (0.0, 1.0, 2.0):
        own.get_parameter("weight").copy_(factor * layer.get_parameter("weight"))
        outputs.append(own(taken[0].clone()))
    nothing, once, twice = outputs
    if not torch.allclose(twice - nothing, 2 * (once - nothing), rtol=1e-3, atol=1e-4):
        kind = type(layer).__name__
        reason = f"has {path}, a {kind}, that computes with a weight made from its own: zeros would not stay zero there"
        raise refused(specification, reason)


def _check_layers(specification: Specification, module: nn.Module) -> None:
    if scripted := [path for path, child in module.named_modules() if isinstance(child, torch.jit.ScriptModule)]:
        where = scripted[0] or "the network"
        raise refused(specification, f"has {where} as TorchScript, which hides its weights; give the Python module")
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise refused(specification, "has lazy layers; give them their sizes")
    if frozen := [name for name, parameter in module.named_parameters() if not parameter.requires_grad]:
        raise refused(
            specification, f"freezes {frozen[0]}; let it be trained, for every weight is, or make it a buffer"
        )
    if prune.is_pruned(module) or any(map(parametrize.is_parametrized, module.modules())):
        raise refused(specification, f"computes weights from other parameters; {PLAIN}")
    for path, child in module.named_modules():
        if isinstance(child, WEIGHTED) and "weight" not in child._parameters:
            norm = "as torch.nn.utils.weight_norm and spectral_norm do; leave that out"
            raise refused(specification, f"computes {path}.weight from other parameters, {norm}")
        if type(child).get_extra_state is not nn.Module.get_extra_state:
            raise refused(specification, f"has {path or 'the network'} with get_extra_state, which is no tensor")
    if hook := hook_without_copy(module):
        raise refused(specification, hook)


def hook_without_copy(module: nn.Module) -> str:
    """What is wrong with a network that has hooks which no copy keeps; nothing of any other.

    Those are hooks on gradients, and those of a traced network itself; the hooks of the layers within it stay.
    """
    for name, parameter in module.named_parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            return f"has a hook on the gradient of {name}, which no copy of it keeps"
    for path, child in module.named_modules():
        if isinstance(child, GraphModule) and any(vars(child)[hooks] for hooks in HOOKS):
            return f"has a hook on {path or 'itself'}, which is traced, so that no copy of it keeps the hook"
    return ""


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Attributes of a module with the hooks that change what it computes."""


def _tell_of_sharing(specification: Specification, first: nn.Module, second: nn.Module) -> None:
    """Say so where the function returns the same tensors every time: each use gets a copy of its own."""
    tensors = {id(tensor) for tensor in [*first.parameters(), *first.buffers()]}
    if any(id(tensor) in tensors for tensor in [*second.parameters(), *second.buffers()]):
        shared = "returns the same tensors every time; every network gets a copy, all with the same initial weights"
        log.warning("model.name=%s: %s", specification.model, shared)


def _random_states() -> tuple[bytes, object, bytes]:
    """The states of the global generators of torch, Python and numpy."""
    numpy: tuple[object, ...] = np.random.get_state(legacy=True)  # type: ignore[assignment]  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), repr(numpy[1:]).encode() + bytes(numpy[1])  # type: ignore[call-overload]


def _images(specification: Specification, count: int) -> Tensor:
    """A batch as the network sees it, normalised."""
    draws = generator(0, "images")
    if specification.kind == "int64":
        return specification.drawn(count, draws)
    return torch.rand(specification.example(count).shape, generator=draws)


def _logits(specification: Specification, module: nn.Module, images: Tensor) -> Tensor:
    count = len(images)
    try:
        logits = module(images)
    except (Exception, SystemExit) as error:  # the user's network runs, and may raise anything
        raise refused(specification, _failing(specification, len(images), error)) from None
    if not isinstance(logits, Tensor):
        raise refused(
            specification, f"must return outputs (N, {specification.outputs}), returns {type(logits).__name__}"
        )
    if logits.shape != (count, specification.outputs):
        given = f"{counted(count, specification.noun)} of {specification.size}"
        wanted = f"must return outputs {(count, specification.outputs)} for {given}"
        raise refused(specification, f"{wanted}, returns {tuple(logits.shape)}")
    if not logits.isfinite().all():
        raise refused(specification, "returns outputs that are NaN or infinite")
    return logits


def _failing(specification: Specification, count: int, error: BaseException) -> str:
    given = f"{counted(count, specification.noun)} of {specification.size}"
    between = " between 0 and 1" if specification.kind == "float32" else ""
    return f"fails on {given}{between} ({type(error).__name__}: {error})"
