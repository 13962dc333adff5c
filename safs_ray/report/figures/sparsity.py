"""What pruning leaves of every layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from matplotlib.axes import Axes

from safs_ray.config import ConfigurationError, counted
from safs_ray.report.canvas import PALETTE, Absent, Figure, Margins, Panel, coloured, logarithmic, short, tip
from safs_ray.report.measurement import Layer, layers
from safs_ray.report.record import Record

NAME, TITLE = "sparsity", "What is left of every layer"
ROW = 26
LONGEST = 15
"""Letters of a layer's name that have room."""


def draw(record: Record) -> Figure | Absent:
    """Weights and channels by layer."""
    network = record.best_network or record.start
    if network is None:
        return Absent(NAME, TITLE, "The pruned network was not kept with this run, or does not exist yet.")
    try:
        left, survey = layers(network), network.survey
    except ConfigurationError as error:
        return Absent(NAME, TITLE, f"The network cannot be built here: {error}")
    known = all(layer.live is not None for layer in left.values())
    panels = (_weights(left), *([_channels(left)] if known else []))
    reached = f"{survey.reach[0].upper()}{survey.reach[1:]}."
    return Figure(NAME, TITLE, f"{WEIGHTS} {CHANNELS if known else UNKNOWN} {reached}", panels)


WEIGHTS = "The lines show how many of 100 weights each layer keeps, on a logarithmic scale."
CHANNELS = (
    "The bars show how many of 100 channels (neurons of a linear layer) lie on a path from an image to an output; a "
    "short bar is a bottleneck."
)
UNKNOWN = "It is not known which channels are alive, since the network’s graph cannot be read."


def _weights(left: Mapping[str, Layer]) -> Panel:
    least = min((layer.kept / layer.of for layer in left.values() if layer.kept), default=1.0)
    floor = 10.0 ** np.floor(np.log10(least) - 0.3)

    def paint(axes: Axes) -> None:
        for place, layer in enumerate(left.values()):
            share = max(layer.kept / layer.of, floor)
            axes.plot([floor, share], [place, place], linewidth=3, **coloured("found"))
            (dot,) = axes.plot([share], [place], "o", markersize=6, clip_on=False, **coloured("found"))
            tip(dot, f"{layer.kept:,} of {counted(layer.of, 'weight')}, sparsity {100 * layer.sparsity:.2f}%")
            beside(axes, place, f"{layer.kept:,} of {layer.of:,}")
        logarithmic(axes, floor, 1, unit=0.01)
        axes.set(xlabel="weights left of 100", title="Weights")

    return by_layer("Share of the weights that each layer keeps", left, paint, right=122)


def _channels(left: Mapping[str, Layer]) -> Panel:
    def paint(axes: Axes) -> None:
        for place, layer in enumerate(left.values()):
            axes.barh(place, 1, height=0.55, **coloured("shade"))
            axes.barh(place, (layer.live or 0) / layer.channels, height=0.55, **coloured("found"))
            beside(axes, place, f"{layer.live:,} of {layer.channels:,}")
        axes.set(xlim=(0, 1), xlabel="live channels of 100", title="Live channels")
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")

    return by_layer("Share of the channels of each layer on a path from image to output", left, paint, right=94)


def beside(axes: Axes, place: int, text: str) -> None:
    """A text to the right of a row."""
    axes.text(1.025, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=11)


def by_layer(title: str, weights: Collection[str], paint: Callable[[Axes], None], right: int) -> Panel:
    """A panel with one row for each layer, by the name of its weight.

    Args:
        right: pixels beside the axes.
    """
    names = [name.removesuffix(".weight") for name in weights]

    def rows(axes: Axes) -> None:
        paint(axes)
        axes.set_yticks(range(len(names)), [short(name, LONGEST) for name in names], color=PALETTE["ink"])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)

    return Panel(title, rows, 420, ROW * len(names) + 76, Margins(left=110, right=right, bottom=44))
