"""The chains of the search, candidate by candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from safs_ray.config import Configuration
from safs_ray.report.canvas import PALETTE, Absent, Figure, Mark, Panel, coloured, hollow, key, per_cent, tip
from safs_ray.report.record import Record
from safs_ray.report.sweeps import SweepRecord, Trial
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.strategy import make

NAME, TITLE = "trajectories", "The search, trial by trial"
CAPTION = (
    "Each panel is a trial, and each mark the validation accuracy of a candidate in per cent, in the order of the "
    "chain. All panels have one scale. The thin line is the current assignment, the thick line the best so far. A "
    "chain that still climbs at its end was cut short."
)
LIMIT = " Late acceptance accepts candidates on or above the dotted line."
TUNED = (
    " To the right of the vertical line the best assignment is fine-tuned; the marks show the accuracy at the end of "
    "each stretch, and the line the best within it."
)

ACCEPTED = {"linestyle": "none", "marker": "o", "markersize": 5.5}
REJECTED = {"marker": "o", "markersize": 5.0, "markeredgewidth": 1.1}
DIVERGED = {"linestyle": "none", "marker": "x", "markersize": 6.0, "markeredgewidth": 1.8}
FINE_TUNING = {"marker": "D", "markersize": 4.0, "linewidth": 1.4}
CURRENT = {"linewidth": 1.0, "drawstyle": "steps-post"}
BEST = {"linewidth": 2.4, "drawstyle": "steps-post", "alpha": 0.9}
LIMITS = {"linewidth": 1.2, "linestyle": (0, (1, 2)), "drawstyle": "steps-mid"}


def draw(record: Record) -> Figure | Absent:
    """A panel for every trial that evaluated candidates."""
    chains = [(sweep, trial) for sweep in record.sweeps for trial in sweep.trials if trial.search]
    if not chains:
        return Absent(NAME, TITLE, "No evaluations of candidates were kept with this run.")
    scale = _scale([trial for _, trial in chains])
    panels = [_panel(sweep, trial, record.configuration, scale) for sweep, trial in chains]
    late = record.configuration.search.strategy == "lahc"
    tuned = any(trial.steps > len(trial.search) for _, trial in chains)
    caption = f"{CAPTION}{LIMIT if late else ''}{TUNED if tuned else ''}"
    return Figure(NAME, TITLE, caption, (*panels, _key(late, tuned)))


def _scale(trials: Sequence[Trial]) -> tuple[float, float]:
    """The range of all accuracies in per cent; those that diverged lie at its lower end."""
    steps = [each for trial in trials for each in trial.evaluations if not each.diverged]
    values = [100 * value for each in steps for value in (each.validation_accuracy, each.best_accuracy)]
    low, high = min(values, default=0.0), max(values, default=100.0)
    margin = 0.06 * max(high - low, 1)
    return low - margin, high + margin


def _panel(sweep: SweepRecord, trial: Trial, configuration: Configuration, scale: tuple[float, float]) -> Panel:
    chosen = trial.hyperparameters
    won = trial is sweep.winner
    mark = "★ " if won else ""
    what = trial.name.replace("-", " ") if sweep.name is Sweep.OPERATORS else f"{trial.number}"

    def paint(axes: Axes) -> None:
        _search(axes, trial.search, configuration, scale)
        _fine_tuning(axes, trial, scale)
        axes.set_title(f"{mark}{what}")
        axes.set_title(
            f"{chosen.optimizer} {chosen.learning_rate:.2g}, {trial.fate}",
            loc="right", fontsize=11, fontweight="normal", **coloured("faint"),
        )  # fmt: skip
        axes.set(xlim=(0.4, max(sweep.course.steps, 2) + 0.6), ylim=scale)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))

    title = f"{sweep.name}, trial {trial.number}: best validation accuracy {100 * _highest(trial.search):.1f} per cent"
    return Panel(f"{title}, {trial.fate}{', the winner' if won else ''}", paint, height=186)


def _highest(evaluations: Sequence[Evaluation]) -> float:
    return max(evaluation.validation_accuracy for evaluation in evaluations)


def _search(axes: Axes, search: Sequence[Evaluation], configuration: Configuration, scale: tuple[float, float]) -> None:
    places = [evaluation.iteration + 1 for evaluation in search]
    accuracies = [per_cent(evaluation.validation_accuracy) for evaluation in search]
    late = configuration.search.strategy == "lahc"
    if late:
        axes.plot(places, limits(search, configuration), **coloured("faint", **LIMITS))
    walks = configuration.search.lahc.walks if late else 1
    axes.plot(places, current(search, walks), **coloured("ink", **CURRENT))
    axes.plot(places, [max(accuracies[: index + 1]) for index in range(len(accuracies))], **coloured("found", **BEST))
    for evaluation, place in zip(search, places, strict=True):
        if evaluation.diverged:
            style, height = coloured("default", **DIVERGED), scale[0] + 0.04 * (scale[1] - scale[0])
        else:
            style = coloured("ink", **ACCEPTED) if evaluation.accepted else hollow("faint", **REJECTED)
            height = per_cent(evaluation.validation_accuracy)
        (point,) = axes.plot([place], [height], clip_on=False, **style)
        tip(point, _told(evaluation, configuration.search.epochs))


def _told(evaluation: Evaluation, epochs: int) -> str:
    if evaluation.diverged:
        return f"{' '.join(evaluation.assignment)}: diverged"
    verdict = "accepted" if evaluation.accepted else "rejected"
    early = f" after {evaluation.epochs} of {epochs} epochs" if evaluation.epochs < epochs else ""
    known = ", known from the board" if evaluation.repeated else ""
    return f"{' '.join(evaluation.assignment)}: {100 * evaluation.validation_accuracy:.1f}%, {verdict}{early}{known}"


def current(search: Sequence[Evaluation], walks: int) -> list[float]:
    """The validation accuracy in per cent of the current assignment after every evaluation, of the walk in its turn."""
    values: list[float] = []
    for turn, evaluation in enumerate(search):
        moved = evaluation.accepted or turn < walks
        values.append(per_cent(evaluation.validation_accuracy) if moved else values[-walks])
    return values


def limits(search: Sequence[Evaluation], configuration: Configuration) -> list[float]:
    """The least validation accuracy in per cent that late acceptance would take, before every evaluation.

    It follows from the costs alone, which the strategy is told again. NaN for the start of every walk.
    """
    strategy = make(configuration.search.model_copy(update={"predictor": "none"}), search[0].assignment, seed=0)
    found: list[float] = []
    for evaluation in search:
        limit = strategy.limit
        found.append(per_cent(1 - limit) if math.isfinite(limit) else math.nan)
        strategy.ask()
        strategy.tell(evaluation.cost)
    return found


def _fine_tuning(axes: Axes, trial: Trial, scale: tuple[float, float]) -> None:
    stretches = trial.evaluations[len(trial.search) :]
    if not stretches:
        return
    axes.axvline(stretches[0].iteration + 0.5, linewidth=1, **coloured("faint"))
    healthy = [stretch for stretch in stretches if not stretch.diverged]
    places = [stretch.iteration + 1 for stretch in healthy]
    ends = [per_cent(stretch.validation_accuracy) for stretch in healthy]
    axes.plot(places, ends, clip_on=False, **coloured("third", **FINE_TUNING))
    axes.plot(places, [per_cent(stretch.best_accuracy) for stretch in healthy], **coloured("found", **BEST))
    for stretch in stretches[len(healthy) :]:
        axes.plot([stretch.iteration + 1], [scale[0]], clip_on=False, **coloured("default", **DIVERGED))


def _key(late: bool, tuned: bool) -> Panel:
    marks = [
        Mark("best so far", coloured("found", linewidth=2.4)),
        Mark("current assignment", coloured("ink", linewidth=1.0)),
        Mark("accepted", coloured("ink", **ACCEPTED)),
        Mark("rejected", hollow("faint", **REJECTED)),
        Mark("diverged", {**DIVERGED, "color": PALETTE["default"]}),
    ]
    if late:
        marks.append(Mark("lowest accepted", coloured("faint", **{**LIMITS, "drawstyle": "default"})))
    if tuned:
        marks.append(Mark("fine-tuning with learned scales", coloured("third", **FINE_TUNING)))
    return key(
        *marks, Mark("the winner", {"linestyle": "none", "marker": "*", "color": PALETTE["ink"], "markersize": 8})
    )
