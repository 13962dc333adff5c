"""Figures: panels that matplotlib draws, as SVG in the colours of the page, and as SVG and PNG files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Paper
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullLocator

from safs_ray.report.wording import called
from safs_ray.storage import Folder

PALETTE = {
    "paper": "#ffffff",
    "ink": "#1c2127",
    "faint": "#666d75",
    "line": "#dcdcd6",
    "shade": "#e6e5df",
    "found": "#0068a8",
    "default": "#c4501b",
    "third": "#007a5e",
    "fourth": "#a3568a",
    "fifth": "#8a6d00",
    "sixth": "#4d7fb8",
}
"""Colours by the names that they have in the page's style sheet, which knows darker surroundings too.

found and default are a blue and a vermilion near those of Okabe & Ito, which colour-blind people tell apart; where
they stand for something, so does a dash, a marker or a place.
"""
SERIES = ("found", "default", "third", "fourth", "fifth", "sixth")
MARKERS = ("o", "s", "^", "D", "v", "P")

_NAMES = {value: f"var(--{name})" for name, value in PALETTE.items()}
TIP = "tip:"
"""What the id of an element begins with that shows the rest as a tip under the pointer."""

RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "text.color": PALETTE["ink"],
    "axes.facecolor": "none",
    "axes.edgecolor": PALETTE["line"],
    "axes.labelcolor": PALETTE["faint"],
    "axes.labelsize": 11.5,
    "axes.titlelocation": "left",
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlecolor": PALETTE["ink"],
    "axes.titlepad": 6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALETTE["line"],
    "grid.linewidth": 0.7,
    "xtick.color": PALETTE["line"],
    "ytick.color": PALETTE["line"],
    "xtick.labelcolor": PALETTE["faint"],
    "ytick.labelcolor": PALETTE["faint"],
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Margins:
    """Pixels between a panel's edges and its axes, for titles and labels."""

    left: int = 44
    right: int = 10
    top: int = 28
    bottom: int = 36


@dataclass(frozen=True)
class Panel:
    """One drawing; a point of matplotlib is a pixel of the page.

    Attributes:
        title: what it is called where it cannot be seen.
        width, height: in pixels. What is wider than a phone is scrolled there.
    """

    title: str
    draw: Callable[[Axes], None]
    width: int = 310
    height: int = 200
    margins: Margins = Margins()

    def called(self, measure: str) -> Panel:
        """The same with the name of a run's metric in place of accuracy."""

        def draw(axes: Axes) -> None:
            self.draw(axes)
            for text in axes.findobj(Text):
                if "ccuracy" in text.get_text():
                    text.set_text(called(text.get_text(), measure))

        return replace(self, title=called(self.title, measure), draw=draw)


@dataclass(frozen=True)
class Absent:
    """A figure that cannot be drawn of this run, and why."""

    name: str
    title: str
    reason: str

    def called(self, measure: str) -> Absent:
        """The same with the name of a run's metric in place of accuracy."""
        return replace(self, title=called(self.title, measure), reason=called(self.reason, measure))


@dataclass(frozen=True)
class Figure:
    """Panels with one name and one explanation.

    Attributes:
        name: of its files, without an ending.
        caption: a sentence that says what to see and how to read it.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]

    def called(self, measure: str) -> Figure:
        """The same with the name of a run's metric in place of accuracy."""
        panels = tuple(panel.called(measure) for panel in self.panels)
        title, caption = called(self.title, measure), called(self.caption, measure)
        return replace(self, title=title, caption=caption, panels=panels)

    def drawings(self) -> list[tuple[str, int]]:
        """For each panel an inline SVG element, which fills the width that it is given, and its own width in pixels."""
        return [(_inline(panel, f"{self.name}-{index}"), panel.width) for index, panel in enumerate(self.panels)]

    def save(self, folder: Folder) -> None:
        """Write NAME.svg and NAME.png, with all panels."""
        folder.write(f"{self.name}.svg", self._file("svg"))
        folder.write(f"{self.name}.png", self.png(dpi=216))

    def png(self, dpi: int) -> bytes:
        """All panels as an image; a pixel of the page is a 72nd of an inch."""
        return self._file("png", dpi=dpi)

    def _file(self, kind: str, **settings: Any) -> bytes:
        with matplotlib.rc_context({**RC, "svg.fonttype": "path", "svg.hashsalt": self.name}):
            return _rendered(_together(self.panels), kind, facecolor="white", **settings)


WIDEST = 960
"""Pixels of a row of panels in a file."""


def _together(panels: Sequence[Panel]) -> Paper:
    """All panels in rows on one paper."""
    places: list[tuple[Panel, int, int]] = []
    x = y = below = 0
    for panel in panels:
        if x and x + panel.width > WIDEST:
            x, y = 0, below
        places.append((panel, x, y))
        x, below = x + panel.width, max(below, y + panel.height)
    width = max(x + panel.width for panel, x, _ in places)
    paper = Paper(figsize=(width / 72, below / 72), dpi=72)
    for panel, x, y in places:
        _place(panel, paper, x, y)
    return paper


def _place(panel: Panel, paper: Paper, x: int, y: int) -> None:
    """Draw a panel whose upper left corner is so many pixels from the paper's."""
    width, height = (size * 72 for size in paper.get_size_inches())
    margins = panel.margins
    across, up = panel.width - margins.left - margins.right, panel.height - margins.top - margins.bottom
    left, bottom = x + margins.left, height - y - panel.height + margins.bottom
    panel.draw(paper.add_axes((left / width, bottom / height, across / width, up / height)))


def _rendered(paper: Paper, kind: str, **settings: Any) -> bytes:
    content = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    paper.savefig(content, format=kind, metadata=metadata, **settings)
    return content.getvalue()


def tip(artist: Artist, text: str) -> None:
    """Let the page show a text when the pointer rests on what was drawn."""
    artist.set_gid(f"{TIP}{text}")


def _inline(panel: Panel, salt: str) -> str:
    with matplotlib.rc_context({**RC, "svg.hashsalt": salt}):  # ids follow from the salt, so no two panels share one
        paper = Paper(figsize=(panel.width / 72, panel.height / 72), dpi=72)
        _place(panel, paper, 0, 0)
        root = ElementTree.fromstring(_rendered(paper, "svg"))
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):  # the page has its own style
                parent.remove(child)
    for element in root.iter():
        _adapt(element)
    del root.attrib["width"], root.attrib["height"]
    root.attrib.update({"role": "img", "aria-label": panel.title})
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element) -> None:
    """Take out namespaces and the ids that nothing refers to, name colours, and turn tips into titles."""
    element.tag = _local(element.tag)
    for name in list(element.attrib):
        element.attrib[_local(name)] = element.attrib.pop(name)
    identity = element.get("id", "")
    if element.tag == "g" and identity:
        del element.attrib["id"]
        if identity.startswith(TIP):
            title = ElementTree.Element("title")
            title.text = identity.removeprefix(TIP)
            element.insert(0, title)
    for name in ("fill", "stroke"):  # only a style can refer to a colour by name
        if name in element.attrib:
            element.set("style", f"{name}: {element.attrib.pop(name)}; {element.get('style', '')}")
    if style := element.get("style"):
        element.set("style", re.sub("#[0-9a-f]{6}", lambda colour: _NAMES.get(colour[0], colour[0]), style))


def _local(name: str) -> str:
    return name.rpartition("}")[2]


@dataclass(frozen=True)
class Mark:
    """One line of a key: how matplotlib draws it, and what it means."""

    meaning: str
    style: dict[str, Any]


def key(*marks: Mark) -> Panel:
    """A panel that explains marks, each beside its meaning."""
    width = 56 + 7 * max(len(mark.meaning) for mark in marks)

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(-len(marks), 0))
        for index, mark in enumerate(marks):
            height = -index - 0.5
            lone = mark.style.get("linestyle") == "none"
            axes.plot([21] if lone else [6, 36], [height] if lone else [height, height], clip_on=False, **mark.style)
            axes.text(46, height, mark.meaning, va="center")

    title = "Key: " + "; ".join(mark.meaning for mark in marks)
    return Panel(title, draw, width, 22 * len(marks) + 16, Margins(4, 4, 8, 8))


def coloured(name: str, **style: Any) -> dict[str, Any]:
    """A style of matplotlib in a colour of the palette."""
    return {"color": PALETTE[name], **style}


def hollow(name: str, **style: Any) -> dict[str, Any]:
    """A style of markers without a line, of which only the edge is drawn, on the colour of the paper."""
    return {
        "linestyle": "none", "markeredgecolor": PALETTE[name], "markerfacecolor": PALETTE["paper"], **style
    }  # fmt: skip


def short(name: str, longest: int) -> str:
    """A name in so many letters, of a longer one the last."""
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def logarithmic(axes: Axes, low: float, high: float, unit: float = 1.0) -> None:
    """Make the horizontal axis logarithmic, with plain numbers of so small a unit at a few places.

    Args:
        low, high: its ends, above 0.
    """
    between = (1.0,) if high > 99 * low else (1.0, 3.0) if high > 9 * low else (1.0, 2.0, 3.0, 5.0, 7.0)
    axes.set(xscale="log", xlim=(low, high))
    axes.xaxis.set_major_locator(LogLocator(subs=between))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / unit:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def per_cent(fraction: float | None) -> float:
    """For axes of accuracy; NaN, which is not drawn, where there is none."""
    return float("nan") if fraction is None else 100 * fraction
