"""Which hyperparameters the trials of a sweep have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safs_ray.config import Configuration, Hyperparameters
from safs_ray.randomness import derive

GAMMA = 0.25
"""Of the Parzen estimator, as Ray's own wrapper of HyperOpt has it."""

Propose = Callable[[int, Sequence[tuple[Hyperparameters, float]]], Hyperparameters]
"""The hyperparameters of a trial from its number and from the accuracies of those that have ended."""


def search_space(configuration: Configuration, earlier: Sequence[tuple[Hyperparameters, float]] = ()) -> Propose:
    """TPE, or random draws, whose first proposal is the default hyperparameters.

    A proposal follows from the run's seed, its number and the trials that have ended.

    Args:
        earlier: trials of another run and their accuracies; those that lie in the space are learned from.
    """
    from safs_ray.search import parzen, space  # here: HyperOpt takes a while to import, and workers need none of it

    section, default = configuration.tune, configuration.pruning.hyperparameters
    domain = space.build(section.space)
    drawn = max(3, section.trials // 4)
    known = [(chosen, accuracy) for chosen, accuracy in earlier if space.nearest(chosen, section.space) == chosen]

    def propose(number: int, ended: Sequence[tuple[Hyperparameters, float]]) -> Hyperparameters:
        if number == 0:
            return space.nearest(default, section.space)
        seed = derive(configuration.run.seed, "hyperopt", number)
        if section.searcher == "random" or number + len(known) < drawn or not (known or ended):
            values = parzen.draw(domain, seed)
        else:
            evaluated = [
                (space.values(chosen, section.space, domain), 1 - accuracy) for chosen, accuracy in [*known, *ended]
            ]
            values = parzen.propose(domain, evaluated, seed, GAMMA)
        return space.hyperparameters(values, section.space, domain, default)

    return propose


def default_only(configuration: Configuration) -> Propose:
    """Chains of stage 1, which all have the default hyperparameters."""
    return lambda _number, _ended: configuration.pruning.hyperparameters
