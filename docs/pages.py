"""Pages of the documentation that follow from the package: the keys of a configuration, and what every module is for.

mkdocs calls :func:`on_files` and :func:`on_page_markdown`.
"""

from __future__ import annotations

import ast
import re
from itertools import groupby
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import safs_ray
from safs_ray.keys import keys

PACKAGE = Path(safs_ray.__file__).parent

OUTSIDE = re.compile(r"\[([^]]+)\]\(\.\./[^)]+\)")
"""A link to a file of the repository that is no page; its text names the file."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "configuration.md", content=configuration()))
    files.append(File.generated(config, "rooms.md", content=rooms()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """A page without the links that lead out of ``docs/``, which the site does not have."""
    return OUTSIDE.sub(r"\1", markdown)


def configuration() -> str:
    """A table of keys for each section."""
    lines = [
        "# Configuration",
        "",
        "These are all keys, as `safs_ray/config/` defines them. Give them in a YAML file or as `key.path=value` on "
        "the command line. `tune_configs/quickstart.yaml` is a file with comments.",
    ]
    for section, members in groupby(keys(), lambda key: key.path.partition(".")[0]):
        lines += ["", f"## {section}", "", "| Key | Values | Default | Meaning |", "|---|---|---|---|"]
        for key in members:
            cells = (f"`{key.path}`", key.kind, f"`{key.default}`" if key.default else "", key.meaning)
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def rooms() -> str:
    """What every module says of itself, in reading order."""
    lines = [
        "# Modules",
        "",
        "The package consists of rooms, which are modules or folders. A room imports only from those before it, and "
        "only `tune` imports Ray. This page shows the first paragraph of every module's docstring, in reading order.",
    ]
    for room in reading_order():
        module = PACKAGE / f"{room}.py"
        lines += ["", f"## {room}", ""]
        if module.exists():
            lines.append(_said(module))
            continue
        lines += [_said(PACKAGE / room / "__init__.py"), ""]
        for part in sorted((PACKAGE / room).glob("[!_]*.py")):
            lines.append(f"- `{part.stem}`: {_said(part)}")
    return "\n".join(lines) + "\n"


def reading_order() -> list[str]:
    """The rooms that the package's docstring lists."""
    return str(safs_ray.__doc__).partition("::\n\n")[2].partition("\n\n")[0].split()


def _said(file: Path) -> str:
    """The first paragraph of a module's docstring, on one line, roles of Sphinx as code."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    for role in (":mod:", ":class:", ":func:", ":meth:", ":data:"):
        first = first.replace(f"{role}`~", "`").replace(f"{role}`", "`")
    return first.replace("``", "`").removesuffix("::").rstrip()
