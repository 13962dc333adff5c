from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.axes import Axes
from PIL import Image

from safs_ray.report import canvas
from safs_ray.report.canvas import PALETTE, RC, Figure, Mark, Panel, coloured, hollow, key, logarithmic, tip
from safs_ray.storage import Folder

STYLE = (Path(canvas.__file__).parent / "templates" / "style.css").read_text()


def paint(axes: Axes) -> None:
    (line,) = axes.plot([0, 1], [0, 1], **coloured("found", marker="o"))
    tip(line, "<b> & co.")
    axes.plot([0], [1], **hollow("faint", marker="s"))
    axes.bar([0.5], [0.5], hatch="//", facecolor=PALETTE["paper"], edgecolor=PALETTE["default"])
    axes.set_title("a <script> $x_1$ & ü")


FIGURE = Figure("name", "Title", "Caption.", (Panel("first <panel>", paint), Panel("second", paint, width=500)))


def test_panels_are_inline_elements_of_their_own_width() -> None:
    (first, width), (second, wide) = FIGURE.drawings()
    assert (width, wide) == (310, 500)
    root = ElementTree.fromstring(first)
    assert root.tag == "svg"
    assert root.attrib["viewBox"] == "0 0 310 200"
    assert root.attrib["aria-label"] == "first <panel>"
    assert not {"width", "height"} & set(root.attrib)
    assert [each.text for each in root.iter("title")] == ["<b> & co."]
    assert "a <script> $x_1$ & ü" in [each.text for each in root.iter("text")]
    assert "metadata" not in first
    assert "<style" not in first
    assert "xmlns" not in first + second


def test_every_colour_is_one_of_the_page() -> None:
    svg = FIGURE.drawings()[0][0]
    assert not re.findall("#[0-9a-fA-F]{6}", svg)
    used = set(re.findall(r"var\(--(\w+)\)", svg))
    assert {"found", "faint", "paper", "default", "ink", "line"} <= used
    for name in PALETTE:
        assert STYLE.count(f"--{name}:") == 2, "for light and for dark surroundings"
    light = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", STYLE.partition("@media")[0]))
    assert light == PALETTE


def test_no_two_panels_share_an_id_and_every_reference_is_kept() -> None:
    ids, references = [], set()
    for svg, _ in FIGURE.drawings():
        ids += re.findall(r'\bid="([^"]+)"', svg)
        references |= set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert len(ids) == len(set(ids))
    assert references <= set(ids)
    assert references


def test_a_panel_is_drawn_the_same_every_time() -> None:
    assert FIGURE.drawings() == FIGURE.drawings()


def test_files_hold_all_panels(tmp_path: Path) -> None:
    FIGURE.save(Folder.at(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.png", "name.svg"]
    root = ElementTree.parse(tmp_path / "name.svg").getroot()
    assert root.attrib["viewBox"] == "0 0 810 200"
    assert "<text" not in (tmp_path / "name.svg").read_text()  # outlines, which look the same without fonts
    assert Image.open(tmp_path / "name.png").size == (3 * 810, 3 * 200)


def test_panels_that_have_no_room_begin_a_new_row(tmp_path: Path) -> None:
    Figure("rows", "", "", (Panel("", paint, 600, 100), Panel("", paint, 600, 150))).save(Folder.at(tmp_path))
    assert ElementTree.parse(tmp_path / "rows.svg").getroot().attrib["viewBox"] == "0 0 600 250"


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [(0.1, 0.8, "0.1 0.2 0.3 0.5 0.7"), (0.01, 0.2, "0.01 0.03 0.1"), (0.0001, 1.5, "0.0001 0.001 0.01 0.1 1")],
)
def test_numbers_of_a_logarithmic_axis_are_few_and_plain(low: float, high: float, numbers: str) -> None:
    svg = Figure("log", "", "", (Panel("", lambda axes: logarithmic(axes, low, high), 420),)).drawings()[0][0]
    shown = [each.text for each in ElementTree.fromstring(svg).iter("text")]
    assert [text for text in shown if text in numbers.split()][: len(numbers.split())] == numbers.split()
    assert "$" not in svg


def test_a_key_explains_every_mark() -> None:
    panel = key(Mark("one", coloured("found")), Mark("two & three", coloured("default", linestyle="none", marker="x")))
    svg = Figure("key", "", "", (panel,)).drawings()[0][0]
    assert [each.text for each in ElementTree.fromstring(svg).iter("text")] == ["one", "two & three"]
    assert panel.title == "Key: one; two & three"


def test_the_settings_of_matplotlib_stay_as_they_were() -> None:
    before = {key: matplotlib.rcParams[key] for key in RC}
    FIGURE.drawings()
    assert {key: matplotlib.rcParams[key] for key in RC} == before != RC
