"""Pages of the documentation that follow from the package: the keys of a configuration, and what every module is for.

mkdocs calls :func:`on_files`.
"""

from __future__ import annotations

import ast
from itertools import groupby
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import safs_ray
from safs_ray.keys import keys

PACKAGE = Path(safs_ray.__file__).parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "configuration.md", content=configuration()))
    files.append(File.generated(config, "rooms.md", content=rooms()))
    return files


def configuration() -> str:
    """A table of keys for each section."""
    lines = [
        "# Configuration",
        "",
        "Every key, as the models in `safs_ray/config/` have it. Give them in a YAML file, of which "
        "`tune_configs/quickstart.yaml` is a commented one, or as `key.path=value` on the command line.",
    ]
    for section, members in groupby(keys(), lambda key: key.path.partition(".")[0]):
        lines += ["", f"## {section}", "", "| key | takes | default | meaning |", "|---|---|---|---|"]
        for key in members:
            cells = (f"`{key.path}`", key.kind, f"`{key.default}`" if key.default else "", key.meaning)
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def rooms() -> str:
    """What every module says of itself, in reading order."""
    lines = [
        "# Room by room",
        "",
        "The package is read from top to bottom: a module or folder imports only from those before it, and only "
        "`tune` imports Ray. Each says here what it is for, in the words of its own docstring.",
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
    indented = [line for line in str(safs_ray.__doc__).splitlines() if line.startswith("    ")]
    return [room for line in indented[:2] for room in line.split()]


def _said(file: Path) -> str:
    """The first paragraph of a module's docstring, on one line, roles of Sphinx as code."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    for role in (":mod:", ":class:", ":func:", ":meth:", ":data:"):
        first = first.replace(f"{role}`~", "`").replace(f"{role}`", "`")
    return first.replace("``", "`").removesuffix("::").rstrip()
