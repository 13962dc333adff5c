"""CITATION.cff: the version that is cited is the one that is installed, and the paper is the one of the method."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import safs_ray

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    return found


def test_citation_has_what_its_format_requires(citation: dict[str, Any]) -> None:
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)


def test_citation_is_of_this_version_name_and_licence(citation: dict[str, Any]) -> None:
    assert citation["version"] == PROJECT["version"] == safs_ray.__version__
    assert (citation["title"], citation["license"]) == (PROJECT["name"], PROJECT["license"])


def test_citation_refers_to_the_paper_that_the_readme_names(citation: dict[str, Any]) -> None:
    paper = citation["references"][0]
    authors = ", ".join(author["family-names"] for author in paper["authors"])
    assert (authors, paper["year"]) == ("Loni, Mohan, Asadi, Lindauer", 2023)
    assert paper["doi"] == f"10.48550/arXiv.{paper['url'].rpartition('/')[2]}"
    assert paper["url"] in (ROOT / "README.md").read_text()
