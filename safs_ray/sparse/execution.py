"""How networks are executed: with all of their weights, or with their nonzeros alone. One function decides."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from safs_ray import machine
from safs_ray.config import TYPICAL, ConfigurationError, Costs, Execution, refusal
from safs_ray.network import Network
from safs_ray.sparse.cohort import Cohort, Single
from safs_ray.sparse.compact import CompactCohort, compact
from safs_ray.sparse.dense import DenseCohort


def cohort(
    networks: Sequence[Network], execution: Execution, device: torch.device, costs: Costs = TYPICAL
) -> Cohort | None:
    """The module that trains networks side by side; None where they can only be trained one at a time.

    Args:
        networks: of one mask and specification; at least one.
        execution: dense; sparse, for networks with masks; or auto, which leaves out channels that are pruned whole,
            and is sparse where that is possible and expected to be faster, the network and each of its layers. The same
            choice for the same masks and costs, always.
        costs: what auto goes by.

    Raises:
        ConfigurationError: sparse execution was demanded and cannot be.
    """
    first = _alone(networks[0], execution, device, costs)
    return first.joined(networks[1:]) if len(networks) > 1 else first


def executable(network: Network, execution: Execution, device: torch.device, costs: Costs = TYPICAL) -> Single:
    """One network as a module from uint8 images (N, C, H, W) to logits (N, classes); arguments are those of cohort.

    Raises:
        ConfigurationError: as :func:`cohort`.
    """
    return Single(_alone(network, execution, device, costs))


def _alone(network: Network, execution: Execution, device: torch.device, costs: Costs) -> Cohort:
    module = network.build()
    if device.type == "cpu":
        machine.keep_memory()
    if execution == "dense" or not network.masks:
        return DenseCohort(network, module, device)
    smaller = compact(network) if execution == "auto" else None
    if device.type == "cpu":
        least = 1 / smaller.share if smaller else 1.0
        if sparse := _of_nonzeros(network, module, execution, costs, least):
            return sparse
    elif execution == "sparse":
        raise refusal("run.execution", execution, f"runs on a CPU, not on {device.type}; allowed there: auto, dense")
    return CompactCohort(network, smaller, device) if smaller else DenseCohort(network, module, device)


def why_dense(network: Network) -> str:
    """Why a network with masks can only be executed with all of its weights; empty where that is not so."""
    from safs_ray.sparse import plan
    from safs_ray.sparse.graph import UnsupportedError

    try:
        plan.make(network, network.build())
    except UnsupportedError as reason:
        return str(reason)
    return ""


def following(network: Network, execution: Execution, device: torch.device, costs: Costs = TYPICAL) -> Cohort:
    """The module that trains a network whose masks change; arguments are those of :func:`cohort`.

    It has all weights, and computes with its nonzeros alone once they are few enough for that to be faster.
    """
    module = network.build()
    if execution == "dense" or device.type != "cpu":
        return DenseCohort(network, module, device)
    machine.keep_memory()
    from safs_ray.sparse.following import FollowingCohort
    from safs_ray.sparse.graph import UnsupportedError, read

    try:
        steps = read(module, network.specification.example())
    except UnsupportedError:
        return DenseCohort(network, module, device)
    return FollowingCohort(network, module.train(), steps, costs)


def _of_nonzeros(
    network: Network, module: nn.Module, execution: Execution, costs: Costs, least: float
) -> Cohort | None:
    """The network over its nonzeros; None where auto expects no gain above the least, or it cannot be.

    Raises:
        ConfigurationError: it was demanded and cannot be.
    """
    # Here: numba takes half a second to import, in every worker.
    from safs_ray.sparse import plan
    from safs_ray.sparse.graph import UnsupportedError
    from safs_ray.sparse.planned import cohort_of

    try:
        made = plan.make(network, module, costs, nonzeros_only=execution == "sparse")
    except UnsupportedError as reason:
        if execution == "sparse":
            raise _impossible(network, reason) from None
        return None
    if execution == "auto" and made.gain(costs) <= least:
        return None
    return cohort_of(made, network, module)


def _impossible(network: Network, reason: Exception) -> ConfigurationError:
    cannot = f"cannot be for {network.specification.model}: {reason}; allowed: auto, dense"
    return refusal("run.execution", "sparse", cannot)
