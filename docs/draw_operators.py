"""Write docs/operators.md, the table of operators, and docs/operators.svg, a picture of their curves.

    python docs/draw_operators.py

Both follow from the table in safs_ray/operators/table.py; run it when that has changed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from safs_ray.config import SearchSection
from safs_ray.operators import OPERATORS, Operator

FOLDER = Path(__file__).parent
VALUE, SLOPE = "#0072b2", "#d55e00"
"""Blue and vermilion of Okabe & Ito, which colour-blind people tell apart; the slope is dashed as well."""
PAPER, LINES, TEXT, FAINT = "#f7f7f5", "#d2d2ce", "#333333", "#808080"
COLUMNS = 4
ACROSS, UP = (-5.0, 7.0), (-2.6, 6.6)
"""Every panel shows the same z and the same values, so that curves compare."""


def main() -> None:
    """Write both files."""
    (FOLDER / "operators.md").write_text(document())
    draw().savefig(FOLDER / "operators.svg", metadata={"Date": None})


def document() -> str:
    """The text of docs/operators.md."""
    searched = SearchSection().operators
    rows = [_row(operator, operator.name in searched) for operator in OPERATORS.values()]
    return "\n".join([HEAD, *rows, TAIL])


HEAD = """\
# Operators

<!-- Written by docs/draw_operators.py from the table in safs_ray/operators/table.py: change that and run it again. -->

Every site of a network computes f(x) = alpha g(beta x). The search chooses the operator g; fine-tuning learns the
scales alpha and beta, which start at 1. The parameters in the table are g's own, learned with the weights in every
training.

![g and its slope g' for every operator, at the initial values of its parameters](operators.svg)

`search.operators` names the operators that a site may take; its default is those marked ●.

| Default | Name | g(z) | Parameters start at | Source |
|---|---|---|---|---|"""

TAIL = """
elu(z) is z for z > 0, else exp(z) - 1; Phi is the standard normal distribution function.

## Your own operator

`search.operators=[relu, mine:bump]` takes the function `bump` of `mine.py`, found in the working directory or in an
installed package:

```python
import torch


def bump(z, width=1.0):
    return z * torch.exp(-((z / width.clamp(min=0.1)) ** 2))
```

The function maps a float tensor to a tensor of the same shape, element by element. Arguments with float defaults, such
as `width` here, are learned: they come as tensors, and start at their defaults. Before any work the function is tried
on a small tensor; its values and gradients must be finite for z from -1e4 to 1e4. A network that was saved with it can
be loaded wherever the function can be imported by the same name. [Extending safs_ray](extending.md#an-operator) shows
how to test such a function.
"""


def _row(operator: Operator, searched: bool) -> str:
    parameters = ", ".join(f"{name} = {value:g}" for name, value in operator.parameters.items())
    cells = ("●" if searched else "", f"`{operator.name}`", operator.formula, parameters, operator.source)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def draw() -> Any:
    """Small multiples of every operator and its slope, as a figure of matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "operators", "font.family": "DejaVu Sans"})
    from matplotlib import pyplot as plt

    rows = -(-(len(OPERATORS) + 1) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(9.6, 1.8 * rows), sharex=True, sharey=True, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    panels = list(axes.flat)
    for panel, operator in zip(panels, OPERATORS.values(), strict=False):
        _panel(panel, operator)
    for lowest in panels[len(OPERATORS) - COLUMNS : len(OPERATORS)]:
        lowest.tick_params(labelbottom=True)
    _key(panels[len(OPERATORS)])
    for panel in panels[len(OPERATORS) + 1 :]:
        panel.axis("off")
    return figure


def _panel(panel: Any, operator: Operator) -> None:
    z = torch.linspace(*ACROSS, 1201, dtype=torch.float64, requires_grad=True)
    value = operator.function(z, *(torch.tensor(number, dtype=z.dtype) for number in operator.parameters.values()))
    (slope,) = torch.autograd.grad(value.sum(), z)
    jumps = slope.diff(append=slope[-1:]).abs() > 0.2
    slope = slope.masked_fill(jumps, math.nan)  # no line between the two sides
    panel.plot(z.detach(), slope, color=SLOPE, linewidth=1.2, dashes=(3, 1.5))
    panel.plot(z.detach(), value.detach(), color=VALUE, linewidth=2)
    panel.set_title(operator.name, loc="left", fontsize=10, fontweight="bold", color=TEXT, pad=3)
    parameters = "  ".join(f"{name} {number:g}" for name, number in operator.parameters.items())
    panel.set_title(parameters, loc="right", fontsize=7, color=FAINT, pad=3)
    panel.set(xlim=ACROSS, ylim=UP, xticks=[-3, 0, 3, 6], yticks=[-2, 0, 2, 4, 6], facecolor=PAPER)
    panel.axhline(0, color=LINES, linewidth=0.8, zorder=0)
    panel.axvline(0, color=LINES, linewidth=0.8, zorder=0)
    panel.tick_params(length=0, labelsize=8, labelcolor=FAINT)
    panel.spines[:].set_visible(False)


def _key(panel: Any) -> None:
    """What the two lines mean, in the panel after the last operator."""
    panel.axis("off")
    for height, dashes, width, colour, text in (
        (4.2, (None, None), 2, VALUE, "g(z)"),
        (2.2, (3, 1.5), 1.2, SLOPE, "slope g'(z)"),
    ):
        panel.plot([-4, -2], [height, height], color=colour, linewidth=width, dashes=dashes)
        panel.text(-1.4, height, text, va="center", fontsize=10, color=colour)


if __name__ == "__main__":
    main()
