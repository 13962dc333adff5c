"""Sites: the places where a network applies an activation.

What a network applies is first seen as it runs. Then its graph is taken, with :mod:`torch.fx`, where it shows the same
activations and computes the same; else the network runs its own code, and the calls are redirected.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from safs_ray.activations.applications import Recording, record
from safs_ray.activations.interception import intercept
from safs_ray.activations.sited import SitedNetwork, any_matches
from safs_ray.activations.tracing import UntraceableError, replace_nodes, trace
from safs_ray.config import ConfigurationError, refusal
from safs_ray.dropout import WithoutDropout

TOLERANCE = 1e-4
"""Difference that rounding may make, as a fraction of the largest value."""


@torch.inference_mode(False)
def find_sites(module: nn.Module, example: Tensor, exclude: Sequence[str] = ()) -> SitedNetwork:
    """Find every activation of a module that is an operator.

    A site bears the path of its activation module, or of the module that calls a function followed by the
    function's name; a second application gets ``_2``, a third ``_3``.

    Args:
        module: any network; it stays as it is, and the result is a copy.
        example: of the shape of a batch (N, C, H, W) that the network accepts.
        exclude: patterns, as of :mod:`fnmatch`, of sites that are to stay as they are.

    Raises:
        ConfigurationError: there is no site, a pattern is of no activation and no module, or the network computes
            something else once its activations are at its sites.
    """
    recording = record(module, example)
    sited = _traced(module, recording, exclude)
    names = [*sited.sites, *sited.excluded, *(path for path, _ in module.named_modules())]
    for pattern in exclude:
        if not any(any_matches([pattern], name) for name in names):
            raise refusal("model.exclude", pattern, f"matches nothing; the sites are {', '.join(sited.sites)}")
    if not sited.sites:
        raise ConfigurationError(f"model: {type(module).__name__} applies no activation that can be searched")
    left = tuple(application.words for application in recording.applications if application.operator is None)
    return replace(sited, left=left, module=_in_the_modes_of(module, sited.module))


def _traced(module: nn.Module, recording: Recording, exclude: Sequence[str]) -> SitedNetwork:
    """The sites in the network's graph, or, where that will not do, in its own code."""
    try:
        own = copy.deepcopy(module)
        sited = replace_nodes(own, trace(own), exclude)
        applied = Counter(application.operator for application in recording.applications if application.operator)
        shown = len(sited.defaults) + len(sited.excluded)
        if shown != applied.total() or Counter(sited.defaults) - applied:
            raise UntraceableError(f"its graph shows {shown} of the {applied.total()} activations that it applies")
        if fault := _difference(module, recording, sited):
            raise UntraceableError(f"its graph computes something else: {fault}")
    except UntraceableError as reason:
        return replace(_intercepted(module, recording, exclude), untraced=str(reason))
    return sited


def _intercepted(module: nn.Module, recording: Recording, exclude: Sequence[str]) -> SitedNetwork:
    """The sites of a network that runs its own code.

    Raises:
        ConfigurationError: it computes something else so.
    """
    sited = intercept(copy.deepcopy(module), recording.applications, exclude)
    if fault := _difference(module, recording, sited):
        reason = f"computes something else once its activations are replaced by themselves: {fault}"
        raise ConfigurationError(f"model: {type(module).__name__} {reason}")
    return sited


@torch.no_grad()
def _difference(module: nn.Module, recording: Recording, sited: SitedNetwork) -> str | None:
    """How a sited module with the network's own operators differs from what the network did; None where it does not."""
    other = replace(sited, module=copy.deepcopy(sited.module)).install_defaults(module)
    for training, expected in zip((True, False), recording.outputs, strict=True):
        try:
            with WithoutDropout():
                actual = other.train(training)(recording.inputs.clone())
        except Exception as error:  # a graph may lack what the network's own code does beside it
            return f"it fails ({type(error).__name__}: {error})"
        if isinstance(expected, Tensor) and (fault := _unlike(expected, actual)):
            return f"outputs in {'training' if training else 'evaluation'} differ by {fault}"
    buffers = dict(other.named_buffers())
    for name, buffer in recording.buffers.items():
        if name in buffers and (fault := _unlike(buffer, buffers[name])):
            return f"{name} differs by {fault} after a batch"
    return None


def _unlike(expected: Tensor, actual: object) -> str | None:
    """By how much two tensors differ, as text; None where they agree but for rounding."""
    if not isinstance(actual, Tensor) or actual.shape != expected.shape:
        return "their shapes"
    if expected.is_meta:
        return None
    difference, largest = (actual.double() - expected.double()).abs(), expected.double().abs().nan_to_num()
    if not expected.numel() or torch.allclose(actual, expected, TOLERANCE, TOLERANCE * largest.max().item(), True):
        return None
    return f"{difference.max().item():.2g} of {largest.max().item():.2g}"


def _in_the_modes_of(module: nn.Module, copied: nn.Module) -> nn.Module:
    """The copy with every submodule in training or evaluation mode as in the original."""
    copied.train(module.training)
    modes = {path: child.training for path, child in module.named_modules()}
    for path, child in copied.named_modules():
        child.training = modes.get(path, module.training)
    return copied


def input_shapes(module: nn.Module, sites: Sequence[str], example: Tensor) -> dict[str, torch.Size]:
    """The shape of what each site of a module takes, by site, when the module takes this batch."""
    shapes: dict[str, torch.Size] = {}
    hooks = [
        module.get_submodule(site).register_forward_pre_hook(
            lambda _, inputs, site=site: shapes.__setitem__(site, inputs[0].shape)
        )
        for site in sites
    ]
    with _modes_kept(module), torch.no_grad():
        module.eval()(example)
    for hook in hooks:
        hook.remove()
    return shapes


@contextmanager
def _modes_kept(module: nn.Module) -> Iterator[None]:
    """Leave every submodule in training or evaluation mode as it was."""
    modes = {child: child.training for child in module.modules()}
    try:
        yield
    finally:
        for child, training in modes.items():
            child.training = training
