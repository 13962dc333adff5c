"""The pages lead to files and headings that are there, and the package's docstring to its rooms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import safs_ray
from tests.test_architecture import ROOMS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = {ROOT / "docs" / "configuration.md", ROOT / "docs" / "rooms.md"}
"""Pages that docs/pages.py writes when the site is built."""


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files and headings of this repository that a page links."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            path, _, heading = target.partition("#")
            yield (page.parent / path).resolve() if path else page, heading


def headings(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    lines = [line.lstrip("# ").lower() for line in page.read_text().splitlines() if re.match("#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", line).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    for path, heading in links(page):
        assert path.exists() or path in GENERATED, path
        assert not heading or heading.startswith("safs_ray.") or heading in headings(path), f"{path}#{heading}"


def test_the_navigation_has_every_page() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    named = {ROOT / "docs" / name for name in re.findall(r": (\w+\.md)", navigation)}
    assert named == {*(ROOT / "docs").glob("*.md"), *GENERATED}
    linked = {path for path, _ in links(ROOT / "docs" / "index.md")}
    assert named - linked == {ROOT / "docs" / "index.md"}


def test_the_docstring_of_the_package_lists_the_rooms_in_reading_order() -> None:
    assert str(safs_ray.__doc__).partition("::\n\n")[2].partition("\n\n")[0].split() == list(ROOMS)
