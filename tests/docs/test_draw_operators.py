"""The page and the picture of the operators."""

from __future__ import annotations

import runpy
from pathlib import Path

from safs_ray.operators import OPERATORS

FOLDER = Path(__file__).parents[2] / "docs"
SCRIPT = FOLDER / "draw_operators.py"


def test_the_page_follows_from_the_table() -> None:
    page = runpy.run_path(str(SCRIPT))["document"]()
    assert (FOLDER / "operators.md").read_text() == page, "run: python docs/draw_operators.py"
    for operator in OPERATORS.values():
        assert f"| `{operator.name}` | " in page
    assert "| a = 0.6, b = 1 |" in page
    assert r"sign(z) ln(1 + \|z\|)" in page


def test_the_picture_has_a_panel_for_every_operator() -> None:
    panels = runpy.run_path(str(SCRIPT))["draw"]().axes
    assert [panel.get_title(loc="left") for panel in panels if panel.get_title(loc="left")] == list(OPERATORS)
    (slope, value, *_) = panels[0].lines
    assert value.get_ydata()[-1] == 7
    assert slope.get_ydata()[0] == 0
