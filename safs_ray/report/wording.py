"""Numbers and hyperparameters as a person reads them, in the terminal and on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from safs_ray.config import Hyperparameters
from safs_ray.log import duration
from safs_ray.report.intervals import CONFIDENCE, Estimate


def called(text: str, measure: str) -> str:
    """A text on accuracy as one on the metric of a run.

    Examples:
        >>> called("Test accuracy in per cent", "R²")
        'Test R² in per cent'
    """
    names = {"accuracy": measure, "Accuracy": f"{measure[:1].upper()}{measure[1:]}"}
    return re.sub(r"\b[Aa]ccuracy\b", lambda found: names[found[0]], text)


def percent(accuracy: dict[str, Any]) -> str:
    """An accuracy of results.json in per cent."""
    return spread(accuracy["mean"], accuracy["sd"])


def spread(mean: float, deviation: float | None) -> str:
    """A mean with its standard deviation, where it has one, both fractions, in per cent."""
    return f"{100 * mean:.1f}" if deviation is None else f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def points(difference: float) -> str:
    """A difference of fractions in points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def interval(estimate: Estimate) -> str:
    """The interval of a difference in points; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{points(estimate.low)} to {points(estimate.high)}"


CONFIDENT = f"{100 * CONFIDENCE:g}%"


def seconds(value: float) -> str:
    """A duration with as many digits as it deserves."""
    return f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"


def listed(hyperparameters: Hyperparameters) -> str:
    """Hyperparameters in one line, without those that had no effect."""
    values = hyperparameters.model_dump()
    unused = () if hyperparameters.optimizer == "sgd" else ("momentum",)
    shown = {name: value for name, value in values.items() if name not in unused and value is not False}
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in shown.items()
    )


def of_budget(budget: Mapping[str, Any] | None) -> Iterator[str]:
    """What became of a run's budget, a line or two; nothing without one.

    Args:
        budget: as results.json has it.

    Examples:
        >>> list(of_budget({"seconds": 1200, "spent": 1234.5, "missing": ["2 of 6 final trainings"]}))
        ['The budget of 20 min ended after 21 min; missing: 2 of 6 final trainings']
        >>> list(of_budget({"seconds": 1200, "spent": 1000.0, "missing": []}))
        ['The run took 17 min of its budget of 20 min']
    """
    if not budget:
        return
    whole, spent = duration(budget["seconds"]), duration(budget["spent"])
    if budget["missing"]:
        yield f"The budget of {whole} ended after {spent}; missing: {'; '.join(budget['missing'])}"
    else:
        yield f"The run took {spent} of its budget of {whole}"


NOTHING_BETTER = (
    "The search found nothing surely better than the network's own activations with the default hyperparameters: "
    "the row SAFS is the row pruned."
)
"""Said where the default recipe has won."""
