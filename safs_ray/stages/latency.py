"""From a time that a pruned network may take to the multiply-adds that it may have."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from safs_ray.config import Configuration, refusal, validate
from safs_ray.network import Network
from safs_ray.pruning.structure import least_share, select
from safs_ray.sparse.compact import cut


def meet_latency(configuration: Configuration, network: Network) -> Configuration:
    """The configuration with ``pruning.macs`` such that the time of one input falls to ``pruning.latency``.

    It is as it was where it names no latency. What is timed is torch on one core of this machine, beside the whole
    network. It takes some seconds.

    Args:
        network: whose channels shall go; how long it takes does not depend on what its weights are.

    Raises:
        ConfigurationError: no number of channels is fast enough, or it names the multiply-adds, too.
    """
    section = configuration.pruning
    if section.latency is None or configuration.model.pruned:
        return configuration
    if section.macs is not None:
        reason = f"does not go with pruning.macs={section.macs:g}, which follows from it; give one of them"
        raise refusal("pruning.latency", section.latency, reason)

    scores = {name: weight.abs() for name, weight in network.prunable().items()}

    def takes(macs: float) -> float:
        asked = section.model_copy(update={"macs": macs})
        smaller = cut(network.masked(select(scores, 1 - macs, asked, {}, network)))
        return _time_beside(smaller.module, whole, network)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = network.build().eval()
        macs = largest_share(takes, section.latency)
    finally:
        torch.set_num_threads(threads)
    if macs is None:
        least = "with so few channels that a hundredth of the multiply-adds is left, it takes longer"
        raise refusal("pruning.latency", section.latency, f"{least}; allowed: a larger part of the time")
    macs = max(macs, least_share(network.coupling, scores))
    values = configuration.model_dump(mode="json", exclude_defaults=True)
    return validate({**values, "pruning": {**values["pruning"], "macs": macs, "sparsity": 1 - macs}})


def largest_share(takes: Callable[[float], float], latency: float) -> float | None:
    """The largest share of the multiply-adds, to a twentieth of it, that takes at most a part of the time.

    Args:
        takes: the part of the time that a share takes; it grows with the share.

    Returns:
        A share in [0.01, 1]; None where 0.01 takes too long.

    Examples:
        >>> largest_share(lambda share: 0.1 + 0.9 * share, latency=0.55)
        0.49
        >>> largest_share(lambda share: 0.1 + 0.9 * share, latency=0.1) is None
        True
    """
    shares = sorted({1.0, *(round(0.95**power, 2) for power in range(90))})
    low, high = -1, len(shares)  # the first is fast enough, the other one is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(shares[middle]) <= latency else (low, middle)
    return shares[low] if low >= 0 else None


@torch.inference_mode()
def _time_beside(smaller: nn.Module, whole: nn.Module, network: Network) -> float:
    """The time of one input through one module over that through another; they take turns."""
    example = network.specification.example()[:1]
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(TURNS + 1):
        for module, own in zip((smaller, whole), seconds, strict=True):
            start, calls = time.process_time(), 0
            while calls < CALLS and (calls == 0 or time.process_time() - start < LONGEST):
                module(example)
                calls += 1
            if turn:  # the first one brings what it needs into the caches
                own.append((time.process_time() - start) / calls)
    return median(seconds[0]) / median(seconds[1])


TURNS, CALLS = 7, 20

LONGEST = 0.1
"""Seconds of a turn."""
