"""The picture and the table of gains."""

from __future__ import annotations

import runpy
from pathlib import Path

from safs_ray.config import SearchSection

FOLDER = Path(__file__).parents[2] / "docs"
DRAWN = runpy.run_path(str(FOLDER / "draw_gains.py"))


def test_the_table_of_gains_follows_from_the_records() -> None:
    assert DRAWN["table"](DRAWN["records"]()) in (FOLDER / "expect.md").read_text(), "run: python docs/draw_gains.py"


def test_the_picture_of_gains_has_a_point_for_every_record_and_a_place_for_every_operator() -> None:
    known = DRAWN["records"]()
    left, right = DRAWN["draw"](known).axes
    assert sum(len(points.get_offsets()) for points in left.collections) == len(known)
    assert [label.get_text() for label in right.get_xticklabels()] == list(SearchSection().operators)
    rows = [float(text.get_text()) for text in right.texts]
    places = len(SearchSection().operators)
    for first in range(0, len(rows), places):
        assert abs(sum(rows[first : first + places]) - 100) <= places / 2, "shares of a site, rounded"
