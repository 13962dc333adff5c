"""The same network with less to store and to compute, for inference alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from safs_ray.activations import ScaledActivation
from safs_ray.config import counted
from safs_ray.export.channels import drop_dead
from safs_ray.export.constants import fold_constants
from safs_ray.export.scales import fold_scales
from safs_ray.log import percent
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.sparse import graph
from safs_ray.sparse.compact import Cut, cut
from safs_ray.sparse.graph import Step, UnsupportedError

REWRITINGS: tuple[Callable[[Network, Sequence[Step]], Network], ...] = (fold_scales, fold_constants, drop_dead)
"""In this order: scales count in constants, and constants leave channels that nothing reads."""


def slim(network: Network) -> tuple[Network, tuple[str, ...]]:
    """A network of the same shape that computes the same in evaluation mode, but for rounding.

    It is not to be trained further.

    Returns:
        The network, and what was done or why nothing was, a clause each.
    """
    try:
        steps = graph.read(network.build(), network.specification.example())
    except UnsupportedError as reason:
        return network, (f"nothing was folded or left out: {reason}",)
    smaller = network
    for rewrite in REWRITINGS:
        smaller = rewrite(smaller, steps)
    return smaller, tuple(filter(None, (_scales(network, smaller), _weights(network, smaller))))


def deploy(network: Network) -> tuple[DeployedNetwork, str]:
    """A network as the module that other programs are given, without the channels that reach no output.

    Returns:
        The module, and what was cut or why nothing was; empty when there is nothing to cut.
    """
    try:
        smaller = cut(network)
        module, note = smaller.module, _channels(smaller)
    except UnsupportedError as reason:
        module, note = network.build(), f"kept every layer in its original shape: {reason}"
    return DeployedNetwork(module, network.specification), note


class DeployedNetwork(nn.Module):
    """Inputs (N, …) as a user has them to outputs (N, outputs): the normalisation is inside."""

    def __init__(self, network: nn.Module, specification: Specification) -> None:
        super().__init__()
        self.network = network
        self._specification = specification
        for child in network.modules():
            if isinstance(child, ScaledActivation):
                child.freeze_scales()
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(self._specification.normalised(images))
        return self._specification.restored(outputs)


def _channels(smaller: Cut) -> str:
    """Which channels were cut, and what that saves."""
    if not smaller.sizes:
        return ""
    before, after = (sum(counts) for counts in zip(*smaller.sizes.values(), strict=True))
    which = ", ".join(f"{owner} from {before} to {after}" for owner, (before, after) in smaller.sizes.items())
    if len(smaller.sizes) > NAMED:
        which = f"{counted(len(smaller.sizes), 'layer')} from {before:,} to {after:,}"
    return f"cut the channels of {which}: {percent(smaller.share).strip()} of the multiply-adds are left"


NAMED = 6
"""At most so many layers are named one by one."""


def _scales(before: Network, after: Network) -> str:
    """Which scales were folded."""
    names = [f"{site}.{scale}" for site in before.sites for scale in ("alpha", "beta")]
    scales = [name for name in names if before.state[name] != 1]
    folded = [name for name in scales if after.state[name] == 1]
    which = "all scales" if folded == scales else ", ".join(folded)
    return f"folded {which} into the layers beside them" if folded else ""


def _weights(before: Network, after: Network) -> str:
    """How many weights are left."""
    dead, count = before.nonzero_weights - after.nonzero_weights, before.nonzero_weights
    return f"left out {dead:,} of {counted(count, 'weight')}, on no path from the images to the output" if dead else ""
