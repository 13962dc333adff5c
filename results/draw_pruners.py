"""Draw pruners.svg, the picture of the README, from the recorded runs in results/pruners.

python results/draw_pruners.py
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent / "pruners"
SPARSITY, LEARNING_RATE = 0.99, 0.01
WORDS = {
    "layer": "one shot, every layer alike (as published)",
    "ERK": "one shot, ERK",
    "global": "one shot, global",
    "SynFlow": "SynFlow",
    "RigL": "RigL, ERK",
    "SWAMP": "SWAMP, global",
    "gradual": "gradual, global",
    "GSM": "GSM, global",
}
"""What the README calls each pruner, from the one that leaves least accuracy on."""

BLUE, GREY, TEXT, PAPER = "#0068a8", "#8a8a8a", "#333333", "#ffffff"
STYLE = {"font.size": 11, "font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "pruners"}


def main() -> None:
    """Write the file."""
    cells = json.loads((FOLDER / "pruners.json").read_text())
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(9, 3.9), facecolor=PAPER, layout="constrained")
        for place, pruner in enumerate(WORDS):
            relu, safs = accuracies(cells, pruner, "relu"), accuracies(cells, pruner, "safs")
            before, after = mean(relu), mean(safs)
            axes.plot([before, after], [place, place], linewidth=3, color=BLUE, alpha=0.35, solid_capstyle="round")
            axes.plot([before], [place], "o", markersize=8, color=GREY)
            axes.plot([after], [place], "o", markersize=8, color=BLUE)
            left = f"{before:.1f}  "
            axes.text(before, place, left, ha="right", va="center", color=GREY, fontsize=10)
            axes.text(after, place, f"  {after:.1f}", ha="left", va="center", color=BLUE, fontsize=10, weight="bold")
        axes.set_yticks(range(len(WORDS)), list(WORDS.values()), color=TEXT)
        axes.set(xlim=(25, 104), ylim=(len(WORDS) - 0.5, -0.6), xlabel="test accuracy, % (mean of three networks)")
        axes.set_title(
            "LeNet-5 on MNIST with 1% of its weights: ReLU (grey), activations found by the search (blue)",
            loc="left", fontsize=11, color=TEXT, x=-0.56,
        )  # fmt: skip
        axes.tick_params(left=False, colors=TEXT)
        axes.grid(visible=True, axis="x", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["left", "top", "right"]].set_visible(False)
        figure.savefig(FOLDER / "pruners.svg", metadata={"Date": None})


def accuracies(cells: list[dict[str, Any]], pruner: str, row: str) -> list[float]:
    """Test accuracies in per cent, a value for each seed."""
    return [
        100 * rate[row]["test"]
        for cell in cells
        if cell["pruner"] == pruner and cell["sparsity"] == SPARSITY
        for rate in cell["rates"]
        if rate["learning_rate"] == LEARNING_RATE
    ]


if __name__ == "__main__":
    main()
