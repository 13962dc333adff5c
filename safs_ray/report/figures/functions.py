"""The learned function of every site over what the site takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes

from safs_ray.config import ConfigurationError
from safs_ray.experiment import Row
from safs_ray.network import Network
from safs_ray.operators import lookup
from safs_ray.report.canvas import Absent, Figure, Margins, Mark, Panel, coloured, key, short
from safs_ray.report.measurement import Values, site_inputs
from safs_ray.report.record import Record

Curve = npt.NDArray[np.float64]

NAME, TITLE = "functions", "The learned functions"
BINS = 60
POINTS = 400
LONGEST = 17
"""Letters of a site's name, and of an operator's, that have room."""
WITHOUT_INPUTS = (-4.0, 4.0)


@dataclass(frozen=True)
class Activation:
    """f(x) = alpha * g(beta * x) at one site, with g's own parameters."""

    operator: str
    alpha: float
    beta: float
    internal: tuple[float, ...]

    @classmethod
    def default(cls, operator: str) -> Activation:
        """An operator as a search begins with it."""
        return cls(operator, 1.0, 1.0, tuple(lookup(operator).parameters.values()))

    def __call__(self, x: Curve) -> Curve:
        internal = [torch.tensor(value, dtype=torch.float64) for value in self.internal]
        with torch.no_grad():
            values: Curve = (
                self.alpha * lookup(self.operator).function(self.beta * torch.from_numpy(x), *internal)
            ).numpy()
        return values


def of_network(network: Network) -> dict[str, Activation]:
    """The activation of every site."""
    state = network.state
    return {
        site: Activation(
            operator,
            state[f"{site}.alpha"].item(),
            state[f"{site}.beta"].item(),
            tuple(state[f"{site}.internal.{name}"].item() for name in lookup(operator).parameters),
        )
        for site, operator in zip(network.sites, network.assignment, strict=True)
    }


def of_results(assignment: Mapping[str, Mapping[str, Any]]) -> dict[str, Activation]:
    """As results.json tells of them, which leaves the operators' own parameters as they begin."""
    return {
        site: Activation(each["operator"], each["alpha"], each["beta"], Activation.default(each["operator"]).internal)
        for site, each in assignment.items()
    }


def learned(record: Record) -> dict[str, Activation]:
    """The activations that a run has found, so far or in the end; none where it has found nothing.

    Raises:
        ConfigurationError: an operator of the user's own is not here.
    """
    if record.best_network:
        return of_network(record.best_network)
    return of_results(record.results["assignment"]) if record.results else {}


def draw(record: Record, images: torch.Tensor | None) -> Figure | Absent:
    """A panel for every site.

    Args:
        images: uint8 (N, C, H, W) to take the inputs of; None where there are none.
    """
    try:
        functions = learned(record)
        if not functions:
            return Absent(NAME, TITLE, "Nothing was found yet.")
        inputs = site_inputs(record.best_network, images) if record.best_network and images is not None else {}
        defaults = [Activation.default(name) for name in record.start.assignment] if record.start else []
        folds = [of_network(result.network) for result in record.finals(Row.SAFS)]
    except ConfigurationError as error:
        return Absent(NAME, TITLE, f"The functions cannot be computed here: {error}")
    panels = [
        _panel(site, function, defaults[index : index + 1], [fold[site] for fold in folds], inputs.get(site))
        for index, (site, function) in enumerate(functions.items())
    ]
    return Figure(
        NAME, TITLE, _caption(record, bool(inputs)), (*panels, _key(bool(inputs), bool(defaults), len(folds)))
    )


def _caption(record: Record, measured: bool) -> str:
    shape = (
        "A function matters where its inputs lie: the gray hill counts the inputs that differ from image to image. "
        "Where the solid line follows the dashed one over the hill, nothing has changed."
    )
    if not measured:
        shape = "The inputs are not shown, since the networks or the images are not here"
        own = "" if record.best_network else ", and the operators’ own parameters are drawn as they begin"
        shape += f"{own}. Values far from 0 may never occur."
    state = (
        ""
        if record.finished
        else " The run is not finished: the figure shows the best assignment so far, with scales of 1."
    )
    return f"Each panel shows what a site does to its input x: the learned f(x) = α g(β x). {shape}{state}"


def _panel(
    site: str, function: Activation, default: Sequence[Activation], folds: Sequence[Activation], inputs: Values | None
) -> Panel:
    def paint(axes: Axes) -> None:
        low, high = _range(inputs)
        x = np.linspace(low, high, POINTS)
        if inputs is not None and len(inputs):
            _hill(axes, inputs, low, high)
        for fold in folds:
            axes.plot(x, fold(x), linewidth=0.9, alpha=0.5, **coloured("found"))
        for other in default:
            axes.plot(x, other(x), linewidth=1.6, linestyle=(0, (4, 2)), **coloured("default"))
        axes.plot(x, function(x), linewidth=2.4, **coloured("found"))
        axes.set_title(f"{short(site, LONGEST)} · {short(function.operator, LONGEST)}", pad=22)
        scales, above = f"α {function.alpha:.2f}  β {function.beta:.2f}", axes.get_xaxis_transform()
        axes.text(low, 1.04, scales, transform=above, fontsize=11, **coloured("faint"))
        axes.axhline(0, linewidth=0.9, **coloured("line"))
        axes.axvline(0, linewidth=0.9, **coloured("line"))
        axes.set(xlim=(low, high))
        axes.margins(y=0.06)
        axes.locator_params(nbins=5)

    title = f"{site}: {function.operator}, alpha {function.alpha:.3f}, beta {function.beta:.3f}"
    return Panel(title, paint, height=216, margins=Margins(top=46))


def _range(inputs: Values | None) -> tuple[float, float]:
    """All but the rarest inputs, and 0."""
    if inputs is None or not len(inputs):
        return WITHOUT_INPUTS
    low, high = np.percentile(inputs, [0.5, 99.5])
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    margin = 0.08 * max(high - low, 1e-6)
    return low - margin, high + margin


def _hill(axes: Axes, inputs: Values, low: float, high: float) -> None:
    """The distribution of the inputs, as high as it fits."""
    counts, edges = np.histogram(inputs, bins=BINS, range=(low, high))
    heights = 0.85 * counts / max(1, counts.max())
    axes.stairs(heights, edges, fill=True, transform=axes.get_xaxis_transform(), **coloured("shade"))


def _key(inputs: bool, default: bool, folds: int) -> Panel:
    marks = [Mark("learned f(x)", coloured("found", linewidth=2.4))]
    if folds > 1:
        marks.append(Mark("the same on the other folds", coloured("found", linewidth=0.9, alpha=0.5)))
    if default:
        marks.append(Mark("the network’s own activation", coloured("default", linewidth=1.6, linestyle=(0, (4, 2)))))
    if inputs:
        marks.append(Mark("how often x occurs", coloured("shade", linewidth=10, solid_capstyle="butt")))
    return key(*marks)
