"""The weights of a user's file as a network takes them: by its own names, and without what wrapped or pruned it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safs_ray.models import checkpoint
from safs_ray.models.checkpoint import refused
from safs_ray.models.names import tensors_by_name
from safs_ray.models.parametrized import parametrized

COMPILED = "_orig_mod."
"""What :func:`torch.compile` puts before the names of what it compiles, anywhere in a network."""

AVERAGED = "n_averaged"
"""What :class:`torch.optim.swa_utils.AveragedModel` counts beside the weights that it averages."""

COUNTER = "num_batches_tracked"
"""What a batch normalisation counts, which old files lack."""


@dataclass(frozen=True)
class Weights:
    """A network's state dict, and the masks that its file says it was pruned by.

    Attributes:
        file: path or URI.
        state: a tensor for every name in the network's own ``state_dict()``, of the same shape, finite.
        masks: bool tensors by name of what they mask, True where kept, of a network that
            :mod:`torch.nn.utils.prune` pruned; otherwise empty.
    """

    file: str
    state: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]

    @classmethod
    def read(cls, file: str, module: nn.Module) -> Weights:
        """A module's weights in a file: all of its own and no others.

        A prefix that all names carry is taken off where only that makes them the module's. A tensor that the module
        has under several names may be in the file once.

        Raises:
            ConfigurationError: the file cannot be read, or a tensor, which is named, is missing, not the module's, of
                another shape or type, or not finite.
        """
        wanted = module.state_dict()
        held = checkpoint.read(file)
        if AVERAGED not in wanted and len(held) > 1:
            held.pop(AVERAGED, None)
        unpruned, given_masks = _unpruned(file, held)
        names = _names(list(unpruned), wanted)
        state = {names[name]: tensor for name, tensor in unpruned.items()}
        masks = {names[name]: mask for name, mask in given_masks.items()}
        ties = _ties(module)
        _complete(state, masks, wanted, ties)
        _check(file, state, wanted)
        for first, *others in ties:
            if different := [name for name in others if not torch.equal(state[name].double(), state[first].double())]:
                raise refused(file, f"holds other values in {different[0]} than in {first}; the network ties the two")
            masks = {name: mask for name, mask in masks.items() if name not in others}  # one tensor has one mask
        return cls(file, state, masks)

    def masks_of(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The masks of a pruned network's weights: what the file says, and where it says nothing, their zeros.

        Args:
            weights: those that can be pruned, by name.

        Raises:
            ConfigurationError: none of the weights is zero, or something else is pruned.
        """
        if other := [name for name in self.masks if name not in weights]:
            kinds = "only weights of layers, attention and recurrence can stay pruned"
            raise refused(self.file, f"holds a mask of {other[0]}; {kinds}")
        masks = {name: self.masks.get(name, tensor != 0) for name, tensor in weights.items()}
        if all(mask.all() for mask in masks.values()):
            count = sum(mask.numel() for mask in masks.values())
            instead = (
                "leave out model.pruned to prune it, or give pruning.sparsity=0 in its place to search it as it is"
            )
            raise refused(self.file, f"is not pruned: none of its {count:,} weights is zero; {instead}")
        return masks


def _unpruned(file: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state without :mod:`torch.nn.utils.prune`'s doing, X = X_orig * X_mask, and the masks of the X."""
    pruned, masks = dict(state), {}
    for name in (name.removesuffix("_mask") for name in state if name.endswith("_mask")):
        if f"{name}_orig" in state:
            given, original = pruned.pop(f"{name}_mask"), pruned.pop(f"{name}_orig")
            if given.shape != original.shape:
                raise refused(file, f"{name}_mask has shape {tuple(given.shape)}, must have {tuple(original.shape)}")
            mask = given.bool()
            if not torch.equal(mask.double(), given.double()):
                raise refused(file, f"{name}_mask holds other numbers than 0 and 1")
            pruned[name], masks[name] = torch.where(mask, original, 0), mask
    return pruned, masks


def _names(names: Sequence[str], wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """The network's name for every name of a file; the same ones where none of :func:`_unwrapped` are the network's."""
    fitting = (renamed for renamed in _unwrapped(names) if all(name in wanted for name in renamed))
    return dict(zip(names, next(fitting, names), strict=True))


def _unwrapped(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The names, and what they are without what torch.compile, DataParallel, Lightning and the like put before them."""
    yield names
    names = [name.replace(COMPILED, "") for name in names]
    while len(set(names)) == len(names):
        yield names
        prefix = f"{names[0].partition('.')[0]}."
        if not all(name.startswith(prefix) for name in names):
            return
        names = [name.removeprefix(prefix) for name in names]


def _ties(module: nn.Module) -> list[list[str]]:
    """The names of every tensor that a module has under more than one."""
    return [names for _, names in tensors_by_name(module) if len(names) > 1]


def _complete(
    state: dict[str, Tensor], masks: dict[str, Tensor], wanted: Mapping[str, Tensor], ties: Sequence[Sequence[str]]
) -> None:
    """Add what follows from what is there: batches that nobody counted, and tied tensors that are there once."""
    for name in wanted:
        if name.endswith(COUNTER) and f"{name.removesuffix(COUNTER)}running_mean" in state:
            state.setdefault(name, torch.zeros_like(wanted[name]))
    for group in ties:
        for held in (state, masks):
            if there := [name for name in group if name in held]:
                held |= {name: held[there[0]] for name in group if name not in held}


def _check(file: str, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse a state that is not a network's."""
    missing, extra = [name for name in wanted if name not in state], [name for name in state if name not in wanted]
    if missing and (advice := parametrized(state)):
        raise refused(file, advice)
    if missing:
        raise refused(file, f"lacks {_some(missing)}; it holds {_some(list(state))}")
    if extra:
        raise refused(file, f"holds {_some(extra)}, which the network has not")
    _check_sizes(file, state, wanted)
    for name, tensor in state.items():
        _check_tensor(file, name, tensor, wanted[name])


def _check_sizes(file: str, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse a network of which channels were cut off: those of one layer are inputs of the next."""
    other = [name for name, tensor in state.items() if tensor.shape != wanted[name].shape]
    layers = {name.rpartition(".")[0] for name in other}
    if len(layers) > 1 and all(_is_part(state[name].shape, wanted[name].shape) for name in other):
        shapes = f"{other[0]} has shape {tuple(state[other[0]].shape)}, not {tuple(wanted[other[0]].shape)}"
        build = "name a function as model.name that builds it so small"
        raise refused(
            file,
            f"holds a smaller network, as Torch-Pruning and the like cut it: {shapes}, and "
            f"{len(other) - 1} more are smaller; {build}",
        )


def _is_part(shape: torch.Size, whole: torch.Size) -> bool:
    return len(shape) == len(whole) and all(size <= limit for size, limit in zip(shape, whole, strict=True))


def _check_tensor(file: str, name: str, tensor: Tensor, wanted: Tensor) -> None:
    if tensor.shape != wanted.shape:
        raise refused(file, f"{name} has shape {tuple(tensor.shape)}, must have {tuple(wanted.shape)}")
    if tensor.dtype.is_floating_point != wanted.dtype.is_floating_point:
        raise refused(file, f"{name} is of {tensor.dtype}, must be of {wanted.dtype}")
    if not tensor.to(wanted.dtype).isfinite().all():
        raise refused(file, f"{name} holds NaN, infinity or what {wanted.dtype} cannot hold")


def _some(names: Sequence[str]) -> str:
    """The first name and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
