"""The examples in docstrings give what they say, and there is one for everything that a user calls."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import safs_ray

PACKAGE = Path(safs_ray.__file__).parent

CALLED = {
    "config.reading": ["load", "validate", "overridden", "beside_budget"],
    "config.run": ["seconds_of"],
    "config.training": ["TrainingSection"],
    "storage": ["Folder"],
    "references": ["is_reference"],
    "randomness": ["derive", "GlobalGenerators"],
    "losses": ["CrossEntropy", "Targets"],
    "mapped": ["MappedRows"],
    "metrics": ["Accuracy"],
    "data": ["Examples", "Dataset", "Folds"],
    "sources": ["load"],
    "sources.splits": ["words_of"],
    "operators": ["lookup", "find"],
    "models": ["build"],
    "models.names": ["tensors_by_name"],
    "models.specification": ["Specification"],
    "pruning": ["find_masks"],
    "pruning.coupling": ["coupling_of"],
    "pruning.masks": ["prunable_weights"],
    "pruning.envelope": ["shares"],
    "pruning.heads": ["heads_of"],
    "pruning.scores": ["magnitude", "lamp"],
    "pruning.allocation": ["layer", "global_"],
    "pruning.structure": ["n_of_m", "blocks"],
    "pruning.turbo": ["neighbours"],
    "pruning.holding": ["Holding"],
    "network": ["Network"],
    "training.pausing": ["Pausing"],
    "schedules": ["epochs", "shared"],
    "search.assignment": ["neighbour"],
    "search.course": ["joint"],
    "search.lahc": ["LateAcceptance"],
    "search.strategy": ["make"],
    "stages.classes": ["told"],
    "stages": ["load", "folds", "specify", "train_dense", "prune", "search", "finish"],
    "experiment.budgeting": ["within"],
    "experiment.expectation": ["expectation"],
    "experiment.finalists": ["winner_of", "standard_error"],
    "experiment.pruners": ["rounds"],
    "stages.latency": ["largest_share"],
    "experiment.local": ["InProcess", "run"],
    "report.wording": ["called"],
    "report.intervals": ["paired_difference"],
    "export": ["write"],
    "export.loading": ["load"],
    "sparsification": ["sparsify", "sparsify_with"],
    "testing": ["check_strategy", "check_score", "check_operator"],
}
"""What a user calls, by module."""


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def examples_of(module: str) -> list[doctest.Example]:
    """All examples in a module's docstrings."""
    tests = doctest.DocTestFinder().find(importlib.import_module(f"safs_ray.{module}"))
    return [example for test in tests for example in test.examples]


def test_examples_in_docstrings_are_where_they_are_looked_for() -> None:
    assert {name_of(file) for file in PACKAGE.rglob("*.py") if ">>> " in file.read_text()} == set(CALLED)


@pytest.mark.parametrize("module", CALLED)
def test_examples_in_docstrings_call_what_a_user_calls(module: str) -> None:
    code = ast.parse("".join(example.source for example in examples_of(module)))
    called = {node.func for node in ast.walk(code) if isinstance(node, ast.Call)}
    names = {ast.unparse(function).partition(".")[0] for function in called}
    assert set(CALLED[module]) <= names


@pytest.mark.parametrize("module", CALLED)
def test_examples_in_docstrings_give_what_they_say(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(f"safs_ray.{module}"))
    assert tried > 0
    assert failed == 0
