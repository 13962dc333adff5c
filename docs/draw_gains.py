"""Draw gains.svg from the recorded runs in results/, and print the table beside it in expect.md.

python docs/draw_gains.py

A record is a pruned network that was trained with ReLU and, by the same recipe and for as many epochs, with the
operators that a search found. Runs whose search chose hyperparameters as well count by their row "stage 1", which
has the default ones, and not at all without it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from safs_ray.config import SearchSection

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parent / "results"
OPERATORS = SearchSection().operators
SITES = ("1, behind a convolution", "2, behind a convolution", "3, behind a linear layer", "4, behind a linear layer")
"""The activations of LeNet-5."""

MUCH = 3.0
"""Points of a gain that no chance makes, on the 10,000 images of either test set."""

DARK = 18
"""Per cent from which numbers are white."""

BOUNDS = (0, 60, 85, 95, 100)
"""Of ReLU's accuracy, in per cent."""

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "svg.fonttype": "path",
    "svg.hashsalt": "gains",
}
COLOURS = {
    "LeNet-5, MNIST": "#0068a8",
    "LeNet-5, CIFAR-10": "#d55e00",
    "VGG-16, CIFAR-10": "#009e73",
    "ResNet-18, CIFAR-10": "#a0509b",
}


class Record(NamedTuple):
    """Test accuracies in per cent; the operators by site."""

    network: str
    relu: float
    found: float
    assignment: tuple[str, ...]

    @property
    def gain(self) -> float:
        return self.found - self.relu


def main() -> None:
    """Write the file, and print the table."""
    with plt.rc_context(STYLE):
        draw(records()).savefig(FOLDER / "gains.svg", metadata={"Date": None})
    print(table(records()))


def records() -> list[Record]:
    """All of them."""
    return [*of_pruners(), *of_channels(), *of_rows(), *of_runs()]


def table(known: list[Record]) -> str:
    """Gains by ReLU's accuracy, as Markdown."""
    lines = ["| Network | ReLU | Trainings | Gain in points | Largest |", "|---|---|---|---|---|"]
    for network, (low, high) in product(COLOURS, pairwise(BOUNDS)):
        gains = [record.gain for record in known if record.network == network and low <= record.relu < high]
        if gains:
            average, largest = (round(gain, 1) + 0.0 for gain in (mean(gains), max(gains)))  # no -0.0
            lines.append(
                f"| {network} | {low} to {high}% | {len(gains)} | {average} | {largest} |".replace("| -", "| −")
            )
    return "\n".join(lines)


def draw(known: list[Record]) -> Figure:
    """Gains against ReLU's accuracy, and the operators found where the gain is large."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11.5, 3.9), facecolor="white", layout="constrained", width_ratios=(4, 7)
    )
    draw_gains(left, known)
    draw_sites(right, [record for record in known if len(record.assignment) == len(SITES) and record.gain >= MUCH])
    return figure


def draw_gains(axes: Any, known: list[Record]) -> None:
    """A point for every record: gain against ReLU's accuracy."""
    for network, colour in COLOURS.items():
        own = [record for record in known if record.network == network]
        relu, gains = [record.relu for record in own], [record.gain for record in own]
        axes.scatter(relu, gains, s=16, color=colour, alpha=0.7, linewidths=0, label=f"{network} ({len(own)})")
    axes.axhline(0, color="#8a8a8a", linewidth=0.8)
    axes.set(
        xlabel="test accuracy with ReLU, %", ylabel="points with the operators found", xlim=(0, 101), ylim=(-3, 43)
    )
    axes.legend(frameon=False, fontsize=8, handletextpad=0.2, loc="upper right")
    axes.grid(visible=True, color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_sites(axes: Any, gaining: list[Record]) -> None:
    """How often each operator was found at each site where it paid."""
    counts = [Counter(record.assignment[site] for record in gaining) for site in range(len(SITES))]
    shares = np.array([[100 * count[name] / len(gaining) for name in OPERATORS] for count in counts])
    axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=30)
    axes.invert_yaxis()
    for (site, place), share in np.ndenumerate(shares):
        colour = "white" if share > DARK else "#333333"
        axes.text(place + 0.5, site + 0.5, f"{share:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(np.arange(len(OPERATORS)) + 0.5, OPERATORS, rotation=40, ha="right")
    axes.set_yticks(np.arange(len(SITES)) + 0.5, SITES)
    axes.tick_params(length=0)
    title = f"operators by site, % of {len(gaining)} LeNet-5 that gain {MUCH:.0f} points and more"
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[:].set_visible(False)


def of_pruners() -> Iterator[Record]:
    """LeNet-5 by pruner, sparsity, seed and learning rate."""
    for file, data in ("pruners/pruners.json", "MNIST"), ("cifar10/pruners.json", "CIFAR-10"):
        for cell in json.loads((RESULTS / file).read_text()):
            for rate in cell["rates"]:
                yield of_cell(f"LeNet-5, {data}", rate)


def of_channels() -> Iterator[Record]:
    """Networks that have lost channels."""
    for file in sorted((RESULTS / "channels").glob("*.json")):
        for cell in json.loads(file.read_text()):
            yield of_cell("LeNet-5, MNIST" if len(cell["assignment"]) == len(SITES) else "VGG-16, CIFAR-10", cell)


def of_cell(network: str, cell: dict[str, Any]) -> Record:
    """What benchmarks/pruners.py and benchmarks/channels.py write of a training."""
    return Record(network, 100 * cell["relu"]["test"], 100 * cell["safs"]["test"], tuple(cell["assignment"]))


def of_rows() -> Iterator[Record]:
    """What benchmarks/rows.py writes."""
    for file in sorted(RESULTS.glob("*/*/rows.json")):
        rows = json.loads(file.read_text())
        found = rows["found"]
        yield Record(network_of(file), 100 * rows["relu"]["test"], 100 * found["test"], tuple(found["assignment"]))


def of_runs() -> Iterator[Record]:
    """Runs with a row for the operators alone."""
    for file in sorted(RESULTS.glob("*/*/results.json")):
        results = json.loads(file.read_text())
        rows = {row["name"]: 100 * row["test_accuracy"]["mean"] for row in results["rows"]}
        if "stage 1" in rows:
            operators = tuple(site["operator"] for site in results["assignment"].values())
            yield Record(network_of(file), rows["pruned"], rows["stage 1"], operators)


def network_of(file: Path) -> str:
    """The network and the data of a run, by its folder."""
    names = {"vgg16": "VGG-16, CIFAR-10", "resnet18": "ResNet-18, CIFAR-10"}
    return names.get(file.parent.name.partition("-")[0], "LeNet-5, MNIST")


if __name__ == "__main__":
    main()
