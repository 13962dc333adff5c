"""Forward and backward of an activation in a sparse network: its compiled operator against torch's, in one run.

    python benchmarks/activations.py
    python benchmarks/activations.py --operators relu srs --channels 512 --side 4

f(x) = alpha g(beta x) of a piece of a batch as it goes through a network, with the scales learned, as in fine-tuning,
and frozen at 1, as in a search, where torch does not multiply with them. Times are medians of repeats that take turns,
in milliseconds of one core; a ratio is torch / compiled.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from timing import Run, medians
from torch import Tensor

from safs_ray import machine
from safs_ray.activations import ScaledActivation
from safs_ray.config import SearchSection
from safs_ray.operators import lookup
from safs_ray.sparse.activate import Activate, ActivateFrozen
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.layers import apply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operators", nargs="+", default=SearchSection().operators)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine.keep_memory()
    source = torch.randn(1, arguments.channels * arguments.side**2, LANES).requires_grad_()
    print("| operator | learned: torch ms | compiled ms | ratio | frozen: torch ms | compiled ms | ratio |")
    print("|" + "---|" * 7)
    for operator in arguments.operators:
        ways = [way for learned in (True, False) for way in _ways(operator, source, learned)]
        times = [1000 * each for each in medians(ways, arguments.seconds)]
        cells = [f"{old:.2f} | {new:.2f} | {old / new:.1f}" for old, new in (times[:2], times[2:])]
        print(f"| {operator} | {' | '.join(cells)} |", flush=True)


def _ways(operator: str, source: Tensor, learned: bool) -> tuple[Run, Run]:
    """By torch, and compiled."""
    activation = ScaledActivation(lookup(operator))
    if not learned:
        activation.freeze_scales()
    parameters = tuple(activation.parameters())
    own = any(parameter.requires_grad for parameter in parameters)  # those of the operator are learned always
    layer, given = (Activate if own else ActivateFrozen)(operator), torch.ones_like(source)

    def by_torch() -> None:
        torch.autograd.backward(activation(source), given)

    def by_compiled() -> None:
        torch.autograd.backward(apply(layer, [source], torch.stack(parameters)), [given])

    return by_torch, by_compiled


if __name__ == "__main__":
    main()
