"""A state dict in a file: safetensors, or torch's own format read without running any code."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from safs_ray import machine
from safs_ray.config import ConfigurationError, refusal
from safs_ray.storage import Folder

HOLDERS = ("state_dict", "model_state_dict", "model")
"""Where a checkpoint of more than weights keeps its state dict."""


@dataclass(frozen=True)
class Weights:
    """A state dict and the masks that the file says it was pruned by.

    Attributes:
        file: path or URI.
        state: tensors by name, as the network's own ``state_dict()`` names them.
        masks: bool tensors by name of what they mask, True where kept, of a network that
            :mod:`torch.nn.utils.prune` pruned; otherwise empty.
    """

    file: str
    state: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]

    @classmethod
    def read(cls, file: str) -> Weights:
        """The weights in a file; names that end in .safetensors are of that format, all others of torch's.

        Raises:
            ConfigurationError: the file is missing, damaged, larger than memory, or holds something else than a state
                dict.
        """
        try:
            place = Folder.at(file)
            size, free = place.parent.size(place.name), machine.free_memory()
            if 2 * size > free:  # as a file and as tensors
                takes = f"takes twice its {machine.readable(size)}, and {machine.readable(free)} of memory are free"
                raise _refusal(file, takes)
            content = place.parent.read(place.name)
        except ConfigurationError:
            raise
        except (OSError, ValueError) as error:
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            raise _refusal(file, reason) from None
        return cls(file, *_unpruned(file, _state(file, content)))

    def load_into(self, module: nn.Module) -> None:
        """Give a module these weights, which must be all of its own and no others.

        Raises:
            ConfigurationError: naming a tensor that is missing, not the network's, of another shape or type, or
                not finite.
        """
        wanted = module.state_dict()
        if missing := [name for name in wanted if name not in self.state]:
            raise _refusal(self.file, f"lacks {_some(missing)}; it holds {_some(list(self.state))}")
        if extra := [name for name in self.state if name not in wanted]:
            raise _refusal(self.file, f"holds {_some(extra)}, which the network has not")
        for name, tensor in self.state.items():
            self._check(name, tensor, wanted[name])
        module.load_state_dict(dict(self.state))

    def masks_of(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The masks of a pruned network's weights: what the file says, and where it says nothing, their zeros.

        Args:
            weights: those that can be pruned, by name.

        Raises:
            ConfigurationError: none of the weights is zero, or something else is pruned.
        """
        if other := [name for name in self.masks if name not in weights]:
            kinds = "only weights of convolutions and linear layers can stay pruned"
            raise _refusal(self.file, f"holds a mask of {other[0]}; {kinds}")
        masks = {name: self.masks.get(name, tensor != 0) for name, tensor in weights.items()}
        if all(mask.all() for mask in masks.values()):
            count = sum(mask.numel() for mask in masks.values())
            raise _refusal(self.file, f"is not pruned: none of its {count:,} weights is zero; leave out model.pruned")
        return masks

    def _check(self, name: str, tensor: Tensor, wanted: Tensor) -> None:
        if tensor.shape != wanted.shape:
            raise _refusal(self.file, f"{name} has shape {tuple(tensor.shape)}, must have {tuple(wanted.shape)}")
        if tensor.dtype.is_floating_point != wanted.dtype.is_floating_point:
            raise _refusal(self.file, f"{name} is of {tensor.dtype}, must be of {wanted.dtype}")
        if not tensor.to(wanted.dtype).isfinite().all():
            raise _refusal(self.file, f"{name} holds NaN, infinity or what {wanted.dtype} cannot hold")


def _state(file: str, content: bytes) -> dict[str, Tensor]:
    held = _read_safetensors(file, content) if file.endswith(".safetensors") else _read_torch(file, content)
    for holder in HOLDERS:
        if isinstance(held, Mapping) and isinstance(held.get(holder), Mapping):
            held = held[holder]
    if not isinstance(held, Mapping) or not held:
        empty = "empty" if isinstance(held, Mapping) else f"of type {type(held).__name__}"
        raise _refusal(file, f"must hold a state dict; what it holds is {empty}")
    for name, tensor in held.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise _refusal(file, f"must hold a state dict, tensors by name; {name} is of type {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or not tensor.is_cpu:
            kind = f"a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}"
            raise _refusal(file, f"{name} is {kind}; allowed: dense ones of real numbers")
        if tensor.nbytes > len(content):  # a view that repeats few values
            raise _refusal(file, f"{name} has shape {tuple(tensor.shape)}, of more values than the file holds")
    return dict(held)


def _read_safetensors(file: str, content: bytes) -> Any:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        raise _refusal(file, f"is no safetensors file ({error})") from None


def _read_torch(file: str, content: bytes) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of formats; what is read is checked
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # as above; torch's own text advises to run the file's code, so it is not passed on
        wanted = "torch.save(network.state_dict(), FILE) makes what can be read"
        raise _refusal(file, f"is no file of tensors alone, or damaged ({type(error).__name__}); {wanted}") from None


def _unpruned(file: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state without :mod:`torch.nn.utils.prune`'s doing, X = X_orig * X_mask, and the masks of the X."""
    pruned, masks = dict(state), {}
    for name in (name.removesuffix("_mask") for name in state if name.endswith("_mask")):
        if f"{name}_orig" in state:
            given, original = pruned.pop(f"{name}_mask"), pruned.pop(f"{name}_orig")
            if given.shape != original.shape:
                raise _refusal(file, f"{name}_mask has shape {tuple(given.shape)}, must have {tuple(original.shape)}")
            mask = given.bool()
            if not torch.equal(mask.double(), given.double()):
                raise _refusal(file, f"{name}_mask holds other numbers than 0 and 1")
            pruned[name], masks[name] = torch.where(mask, original, 0), mask
    return pruned, masks


def _some(names: list[str]) -> str:
    """The first name and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _refusal(file: str, reason: str) -> ConfigurationError:
    return refusal("model.weights", file, reason)
