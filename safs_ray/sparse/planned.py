"""What computes a network by its plan: in one compiled call where its steps form a chain, else step by step."""

from __future__ import annotations

from torch import nn

from safs_ray.network import Network
from safs_ray.sparse.fused import FusedCohort
from safs_ray.sparse.module import SparseCohort
from safs_ray.sparse.plan import Plan
from safs_ray.sparse.program import is_chain
from safs_ray.sparse.symbols import NotCompilableError

Planned = FusedCohort | SparseCohort


def cohort_of(plan: Plan, network: Network, module: nn.Module) -> Planned:
    """The network of a plan as a module.

    Args:
        module: what the network builds; it becomes a part of what is returned.
    """
    try:
        return FusedCohort(plan, [network]) if is_chain(plan) else SparseCohort(plan, network, module)
    except NotCompilableError:
        return SparseCohort(plan, network, module)
