"""An assignment: the operator of every site, in site order. How one is drawn, and what is near it."""

from __future__ import annotations

import random
from collections.abc import Sequence

from safs_ray.config import Move

Assignment = tuple[str, ...]


def random_assignment(operators: Sequence[str], sites: int, draws: random.Random) -> Assignment:
    """An operator drawn uniformly for every site."""
    return tuple(draws.choice(operators) for _ in range(sites))


def neighbour(assignment: Assignment, operators: Sequence[str], move: Move, draws: random.Random) -> Assignment:
    """The assignment after a random move.

    Args:
        operators: names that a site may take; a site that has another one is redrawn in any case.
        move: "redraw" gives one random site another operator; "redraw and swap" then exchanges the operators
            of two random sites, as the original does.

    Examples:
        >>> neighbour(("relu", "relu"), ["relu", "tanh"], "redraw", random.Random(0))
        ('relu', 'tanh')
    """
    sites = list(admitted(assignment, operators, draws))
    site = draws.randrange(len(sites))
    others = [name for name in operators if name != sites[site]]
    sites[site] = draws.choice(others or operators)
    if move == "redraw and swap" and len(sites) > 1:
        first, second = draws.sample(range(len(sites)), 2)
        sites[first], sites[second] = sites[second], sites[first]
    return tuple(sites)


def admitted(assignment: Assignment, operators: Sequence[str], draws: random.Random) -> Assignment:
    """The assignment with every operator that is not among ``operators`` redrawn.

    Only a starting assignment can hold such operators: a network's own activations need not be candidates.
    """
    return tuple(name if name in operators else draws.choice(operators) for name in assignment)
