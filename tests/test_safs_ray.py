"""The package as a library: what ``import safs_ray`` offers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import safs_ray


def test_names_are_imported_when_they_are_used() -> None:
    code = "import sys, safs_ray; print(*({'ray', 'torch', 'numpy', 'pydantic'} & {*sys.modules}))"
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": root}
    )
    assert done.stdout.split() == []


def test_every_name_is_there_and_documented() -> None:
    for name in safs_ray.__all__:
        assert getattr(safs_ray, name).__doc__, name
    assert {*safs_ray.__all__} <= {*dir(safs_ray)}
    assert safs_ray.stages.search.__annotations__["return"] == "Search"


def test_a_type_checker_sees_the_same_names() -> None:
    tree = ast.parse(Path(safs_ray.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == {*safs_ray.__all__}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'safs_ray' has no attribute 'nothing'"):
        _ = safs_ray.nothing
