"""What a run does in the time that it may take: from ``run.budget`` to how long, how many and which.

The configuration says what belongs together, the budget how much of it there is. A ladder leads from the least to the
most; each of its levels has more of one thing than the level below, and less of nothing. A run gets the highest level
that its budget holds, so a longer budget never gives less of anything.

What is worth most comes first, by what was measured (docs/expect.md): the training of the network before, while and
after it is pruned; of ``auto`` then more of it while it is pruned, for the best pruner needs many steps already in its
first try; then the pruners that are tried, and how often finalists are trained; then the search. After pruning in one
shot, where the search pays, it comes before the last half of the training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from safs_ray.config import (
    AUTO,
    Configuration,
    ConfigurationError,
    PruningSection,
    dump,
    leaves,
    overridden,
    parse,
    refusal,
    validate,
)
from safs_ray.config.pruning import LEAST_EPOCHS
from safs_ray.experiment.stage import DENSE, FINAL, FINALISTS, PRUNED, PRUNERS
from safs_ray.log import duration
from safs_ray.search.course import Sweep

Forecast = Callable[[Configuration], Mapping[str, float]]
"""The seconds of each part of an experiment."""

BEST_FIRST = (
    "gradual", "gsm", "synflow", "swamp", "rigl", "iterative", "one-shot-global", "erk", "one-shot-layer"
)  # fmt: skip
"""Pruning recipes by what they are worth (docs/expect.md)."""

SHORTEST, SMALLEST, MOST = 1 / 8, 1 / 4, 4.0
"""The least part of the trainings and of the search that the configuration says, and the most of both."""

STEP = 2**0.25
"""How much longer or larger the next level is."""

FEWEST_PRUNERS = 2

PLANNED = 0.9
"""The part of a budget that is planned; the rest is for what a forecast does not know."""


@dataclass(frozen=True)
class Level:
    """How much there is of everything.

    Attributes:
        length: of the trainings, as a part of what the configuration says.
        pruning: the same of the training that prunes, where it is more.
        pruners: how many recipes ``auto`` tries.
        again: whether finalists are as many, and trained as often, as the configuration says, or one is trained once.
        search: trials, and evaluations of each, as a part of what the configuration says.
        ablations: rows of the table between "pruned" and "SAFS".
    """

    length: float = SHORTEST
    pruning: float = SHORTEST
    pruners: int = FEWEST_PRUNERS
    again: bool = False
    search: float = SMALLEST
    ablations: int = 0


def planned(
    configuration: Configuration, given: Collection[str], seconds: float, forecast: Forecast
) -> tuple[Configuration, list[str]]:
    """What :func:`within` gives, and lines that say what has followed from the budget."""
    chosen = within(seconds, configuration, given, forecast)
    return chosen, list(in_words(configuration, chosen, given, sum(forecast(chosen).values())))


def within(seconds: float, configuration: Configuration, given: Collection[str], forecast: Forecast) -> Configuration:
    """The configuration of what a run can do in so many seconds.

    Args:
        seconds: that are left of ``run.budget``.
        given: keys that stay as they are, as of :func:`safs_ray.config.beside_budget`.
        forecast: of a configuration, by what an epoch takes on this machine.

    Raises:
        ConfigurationError: the seconds do not hold the trainings that no run can do without.

    Examples:
        Were there nothing but dense training, with epochs of one second:

        >>> whole = validate({"run": {"budget": "30s"}, "dense": {"epochs": 40}})
        >>> def forecast(some: Configuration) -> dict[str, float]:
        ...     return {"dense": float(some.dense.epochs)}
        >>> within(30, whole, set(), forecast).dense.epochs
        24
    """
    steps = ladder(configuration, given)
    _check(seconds, configuration, forecast(steps[0]))
    low, high = 0, len(steps) - 1
    while low < high:  # by halves, since a forecast simulates sweeps; of more seconds no half is lower
        middle = (low + high + 1) // 2
        fits = sum(forecast(steps[middle]).values()) <= PLANNED * seconds
        low, high = (middle, high) if fits else (low, middle - 1)
    return steps[low]


def ladder(configuration: Configuration, given: Collection[str]) -> list[Configuration]:
    """What a run may do, from the least to the most; at least one configuration.

    Args:
        given: keys that stay as they are.
    """
    values, steps = parse(dump(configuration), "configuration"), list[Configuration]()
    for level in _levels(configuration):
        dials = {key: value for key, value in _dials(level, configuration, given).items() if key not in given}
        try:
            step = validate(overridden(values, [f"{key}={json.dumps(value)}" for key, value in dials.items()]))
        except ConfigurationError:  # what is given does not go with so little
            continue
        if step not in steps[-1:]:
            steps.append(step)
    return steps or [configuration]


def _check(seconds: float, configuration: Configuration, least: Mapping[str, float]) -> None:
    """Refuse a budget that does not hold what the least of all runs cannot do without: all but the search."""
    needed = {part: took for part, took in least.items() if part not in {*Sweep} and not part.startswith(FINALISTS)}
    if sum(needed.values()) <= seconds:
        return
    names = {DENSE: "dense training", PRUNERS: "pruning", PRUNED: "pruning", FINAL: "final evaluation"}
    *others, last = dict.fromkeys(names[first] for part in needed if (first := part.partition("/")[0]) in names)
    what = f"{', '.join(others)} and {last}" if others else last
    before = max(0.0, configuration.run.budget_seconds - seconds)
    enough = 10 * math.ceil((1.1 * sum(needed.values()) + before) / 10)
    until_now = f", after {duration(before)} until now" if before >= 1 else ""
    raise refusal(
        "run.budget",
        configuration.run.budget,
        f"does not hold {what}: at the shortest about {duration(sum(needed.values()))} here{until_now}; "
        f"allowed: {enough}s or more",
    )


def _levels(configuration: Configuration) -> Iterator[Level]:
    level = Level()
    yield level
    for more in _growth(configuration):
        level = replace(level, **more)
        yield level


def _growth(configuration: Configuration) -> Iterator[dict[str, Any]]:
    """What each level has more of than the one below."""
    pruning = configuration.pruning
    length: list[dict[str, Any]] = [{"length": part} for part in _parts(SHORTEST, 1)]
    search: list[dict[str, Any]] = [{"search": part} for part in _parts(SMALLEST, 1)]
    if pruning.recipe != AUTO and pruning.schedule == "one shot":
        half = len(_parts(SHORTEST, 1 / 2))
        yield from [*length[:half], *search, *length[half:], {"again": True}]
    else:
        longer = [{"pruning": part} for part in _parts(1, MOST) if pruning.recipe == AUTO]
        pruners = range(FEWEST_PRUNERS + 1, len(_candidates(pruning)) + 1)
        yield from [*length, *longer, *({"pruners": count} for count in pruners), {"again": True}, *search]
    yield from ({"ablations": count + 1} for count in range(len(configuration.final.ablations)))
    for part in _parts(1, MOST):
        yield from ({"length": part}, {"search": part})


def _parts(low: float, high: float) -> list[float]:
    """Parts above one up to another."""
    return [low * STEP**number for number in range(1, round(math.log(high / low, STEP)) + 1)]


def _dials(level: Level, configuration: Configuration, given: Collection[str]) -> dict[str, Any]:
    """The keys that a budget may set, at a level."""
    final, searched = configuration.final, _search(level, configuration)
    tuned = _fine_tuning(level, configuration, given)
    return {
        "dense.epochs": _part(level.length, configuration.dense.epochs),
        **_pruning(level, configuration.pruning, given),
        "final.epochs": _part(level.length, final.epochs),
        "final.finalists": final.finalists if level.again else 1,
        "final.seeds": final.seeds if level.again else 1,
        "final.ablations": final.ablations[: level.ablations],
        **searched,
        **tuned,
        **_rungs(configuration, {key: value for key, value in (searched | tuned).items() if key not in given}),
    }


def _part(part: float, whole: int) -> int:
    """A part of a number, at least 1; 0 of 0."""
    return max(1, round(part * whole)) if whole else 0


def _pruning(level: Level, section: PruningSection, given: Collection[str]) -> dict[str, Any]:
    epochs = section.epochs
    if "pruning.epochs" not in given:
        epochs = _part(max(level.length, level.pruning), section.epochs)
    if section.recipe != AUTO:
        return {"pruning.epochs": epochs}
    epochs = max(LEAST_EPOCHS, epochs)
    long_enough = section.model_copy(update={"recipes": (), "epochs": epochs}).tried
    tried = [name for name in _candidates(section)[: level.pruners] if name in long_enough]
    return {"pruning.epochs": epochs, "pruning.recipes": tried}


def _candidates(section: PruningSection) -> list[str]:
    """The recipes that ``auto`` may try, the best first: those named, or all that go with sparsity and structure."""
    names = section.recipes or section.model_copy(update={"epochs": 10**6}).tried
    return sorted(names, key=BEST_FIRST.index)


def _search(level: Level, configuration: Configuration) -> dict[str, Any]:
    section = configuration.search
    return {
        "search.epochs": _part(level.length, section.epochs),
        "search.steps": _part(level.search, section.steps),
        "search.chains": _part(level.search, section.chains),
        "tune.trials": _part(level.search, configuration.tune.trials),
    }


def _fine_tuning(level: Level, configuration: Configuration, given: Collection[str]) -> dict[str, Any]:
    """As many stretches as before, each of them longer; or more of them, where their length is given."""
    section = configuration.finetune
    if "finetune.epochs" in given:
        return {}
    if "finetune.epochs_per_step" in given:
        return {"finetune.epochs": _part(level.length, section.stretches) * section.epochs_per_step}
    stretch = _part(level.length, section.epochs_per_step)
    return {"finetune.epochs": section.stretches * stretch, "finetune.epochs_per_step": stretch}


def _rungs(configuration: Configuration, values: Mapping[str, int]) -> dict[str, Any]:
    """ASHA's rungs at the same parts of a trial."""
    search, finetune, tune = configuration.search, configuration.finetune, configuration.tune
    evaluations = values.get("search.steps", search.steps) if search.protocol == "joint" else 0
    stretches = values.get("finetune.epochs", finetune.epochs) // values.get(
        "finetune.epochs_per_step", finetune.epochs_per_step
    )
    part = (evaluations + stretches) / configuration.whole
    most = {"tune.max_t": _part(part, tune.max_t)} if tune.max_t else {}
    return {"tune.grace_period": _part(part, tune.grace_period), **most}


def in_words(before: Configuration, after: Configuration, given: Collection[str], seconds: float) -> Iterator[str]:
    """What has followed from a budget, in a few lines for a person.

    Args:
        seconds: that are planned.
    """
    budget = after.run.budget_seconds
    yield f"budget     {duration(budget)}, of which about {duration(seconds)} are planned{_beyond(seconds, budget)}"
    old, new = _dials_of(before), _dials_of(after)
    changed = [key for key in old if old[key] != new[key]]
    less = [key for key in changed if _amount(new[key]) < _amount(old[key])]
    for word, keys in (("less", less), ("more", [key for key in changed if key not in less])):
        if keys:
            yield f"  {word}     {', '.join(f'{key}={_shown(new[key])} ({_amount(old[key])})' for key in keys)}"
    if kept := [key for key in old if key in given]:
        yield f"  as given {', '.join(f'{key}={_shown(new[key])}' for key in kept)}"


def _beyond(seconds: float, budget: float) -> str:
    """What is to be said of a plan that is far from its budget."""
    if seconds > budget:
        return ": what is not reached at its end is left out"
    return ": no key grows any further" if seconds < budget / 2 else ""


def _dials_of(configuration: Configuration) -> dict[str, Any]:
    """The value of each key that a budget may set, with the recipes that ``auto`` tries as they are."""
    values = leaves(configuration.model_dump(mode="json"))
    dials = {key: values[key] for key in _dials(Level(), configuration, ())}
    return dials | ({"pruning.recipes": list(configuration.pruning.tried)} if "pruning.recipes" in dials else {})


def _amount(value: Any) -> int:
    """A number, or how many there are."""
    return len(value) if isinstance(value, list) else int(value)


def _shown(value: Any) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)
