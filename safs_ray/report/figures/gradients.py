"""Gradient flow with the network's own activations and with those that were found, as the paper argues with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes

from safs_ray.config import ConfigurationError
from safs_ray.data import Examples
from safs_ray.experiment import Row, final
from safs_ray.losses import CROSS_ENTROPY
from safs_ray.network import Network
from safs_ray.report.canvas import Absent, Figure, Mark, Panel, coloured, key, logarithmic, tip
from safs_ray.report.figures.sparsity import by_layer
from safs_ray.report.measurement import gradient_norms
from safs_ray.report.record import Record
from safs_ray.training.goal import loss_of

NAME, TITLE = "gradients", "Gradient flow"

OWN = coloured("default", linestyle="none", marker="s", markersize=6.0)
FOUND = coloured("found", linestyle="none", marker="o", markersize=7.0)

Norms = Mapping[str, float]


@dataclass(frozen=True)
class Flow:
    """Gradient norms by name of the weight, at one point of the run, of the two networks that are compared."""

    when: str
    own: Norms
    safs: Norms

    @property
    def total(self) -> str:
        """Both norms over the whole network."""
        own, safs = (math.hypot(*norms.values()) for norms in (self.own, self.safs))
        return f"{own:.2g} with its own activations and {safs:.2g} with those found {self.when}"


def draw(record: Record, images: Examples | None) -> Figure | Absent:
    """A panel before the last training, and one after it where there is one.

    Args:
        images: what the loss is taken over; None where there are none.
    """
    if record.start is None or record.best_network is None:
        return Absent(NAME, TITLE, "The networks were not kept with this run, or do not exist yet.")
    if record.configuration.task.loop:
        return Absent(NAME, TITLE, f"Only {record.configuration.task.loop} knows what it makes small.")
    if images is None:
        return Absent(NAME, TITLE, "The images are not here.")
    try:
        flows = _flows(record, record.start, record.best_network, images)
    except ConfigurationError as error:
        return Absent(NAME, TITLE, f"The networks cannot be built here: {error}")
    own = ", ".join(dict.fromkeys(record.start.assignment))
    totals = "; ".join(flow.total for flow in flows)
    caption = (
        "The marks show the norm of the loss gradient over the remaining weights of each layer. A layer with a "
        "gradient near 0 cannot learn. Before the last training both networks have the same weights: if the "
        "activations found suit the network better, the round marks lie to the right of the square ones. The norm over "
        f"the whole network is {totals}."
    )
    marks = (Mark(f"the network’s own activations: {own}", OWN), Mark("the activations found", FOUND))
    return Figure(NAME, TITLE, caption, (*(_panel(flow) for flow in flows), key(*marks)))


def _flows(record: Record, start: Network, best: Network, images: Examples) -> list[Flow]:
    loss = loss_of(record.configuration.data, images, CROSS_ENTROPY)

    def flow(when: str, own: Network, other: Network) -> Flow:
        return Flow(when, gradient_norms(own, images, loss), gradient_norms(other, images, loss))

    flows = [flow("before the last training", start, start.assign(best.assignment))]
    pruned, safs = record.result(final(Row.PRUNED, 0)), record.result(final(Row.SAFS, 0))
    if pruned and safs:
        flows.append(flow("after it", pruned.network, safs.network))
    return flows


def _panel(flow: Flow) -> Panel:
    positive = [norm for norms in (flow.own, flow.safs) for norm in norms.values() if 0 < norm < math.inf] or [1.0]
    floor, ceiling = min(positive) / 3, 2 * max(positive)

    def paint(axes: Axes) -> None:
        for place, name in enumerate(flow.own):
            norms = flow.own[name], flow.safs[name]
            ends = [min(max(norm, floor), ceiling) for norm in norms]
            axes.plot(ends, [place, place], linewidth=1.2, **coloured("faint"))
            for end, norm, style in zip(ends, norms, (OWN, FOUND), strict=True):
                (dot,) = axes.plot([end], [place], clip_on=False, **style)
                tip(dot, f"{name}: {norm:.3g}")
        logarithmic(axes, floor, ceiling)
        axes.set(xlabel="gradient norm", title=f"{flow.when[0].upper()}{flow.when[1:]}")

    return by_layer(f"Gradient norm of each layer {flow.when}", flow.own, paint, right=14)
