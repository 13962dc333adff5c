"""The names of a module's tensors, of which one may have several."""

from __future__ import annotations

from torch import Tensor, nn


def tensors_by_name(module: nn.Module) -> list[tuple[Tensor, list[str]]]:
    """The tensors of a module's state, each with all of its names.

    Examples:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> [names for _, names in tensors_by_name(nn.Sequential(layer, nn.ReLU(), layer))]
        [['0.weight', '2.weight']]
    """
    names: dict[int, tuple[Tensor, list[str]]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), (tensor, []))[1].append(name)
    return list(names.values())
