"""The private attributes of Ray that safs_ray reads: any minor release may lack them, so the dependency has a bound."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from packaging.requirements import Requirement
from packaging.version import Version
from ray.tune import ResultGrid
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler

import safs_ray

TUNE = Path(safs_ray.__file__).parent / "tune"
PROJECT = tomllib.loads((TUNE.parents[1] / "pyproject.toml").read_text())["project"]

PRIVATE = {
    "halving.py": {"_brackets", "_rungs", "_time_attr", "_trial_info"},
    "sweep.py": {"_experiment_analysis"},
}
"""By module, the attributes of Ray's objects that are read there and are Ray's own affair."""


def read_in(module: Path) -> set[str]:
    """The private attributes that a module reads and neither it nor its classes have made."""
    nodes = list(ast.walk(ast.parse(module.read_text())))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own = {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return {node.attr for node in attributes if node.attr.startswith("_") and not node.attr.startswith("__")} - own


def imported_in(module: Path) -> set[str]:
    """The modules that a module imports, with the names that it takes from them."""
    nodes = list(ast.walk(ast.parse(module.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {
        f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def private(owner: Any, name: str) -> Any:
    """A private attribute of one of Ray's objects."""
    if not hasattr(owner, name):
        modules = " and ".join(f"safs_ray/tune/{module}" for module, names in PRIVATE.items() if name in names)
        pytest.fail(
            f"Ray {ray.__version__} has no {type(owner).__name__}.{name}, which {modules} reads: "
            "ray in pyproject.toml must stay below this version until it does without"
        )
    return getattr(owner, name)


@pytest.fixture
def scheduler() -> AsyncHyperBandScheduler:
    """Ray's own ASHA with two brackets, of the rungs 8, 4, 2, 1 and 8, 4, 2."""
    return AsyncHyperBandScheduler(
        time_attr="training_iteration",
        metric="accuracy",
        mode="max",
        max_t=8,
        grace_period=1,
        reduction_factor=2,
        brackets=2,
    )


def test_private_attributes_of_ray_are_these_alone() -> None:
    read = {module.name: names for module in TUNE.glob("*.py") if (names := read_in(module))}
    assert read == PRIVATE


def test_private_modules_of_ray_are_not_imported() -> None:
    names = {name for module in TUNE.glob("*.py") for name in imported_in(module) if name.startswith("ray.")}
    assert not [name for name in names if any(part.startswith("_") for part in name.split("."))]


def test_private_time_attr_is_the_key_of_a_result_that_counts_steps(scheduler: AsyncHyperBandScheduler) -> None:
    assert private(scheduler, "_time_attr") == "training_iteration"


def test_private_rungs_of_brackets_hold_the_accuracies_of_trials_by_milestone(
    scheduler: AsyncHyperBandScheduler,
) -> None:
    first, second = private(scheduler, "_brackets")
    assert private(first, "_rungs") == [(8, {}), (4, {}), (2, {}), (1, {})]
    assert private(second, "_rungs") == [(8, {}), (4, {}), (2, {})]


def test_private_trial_info_is_where_a_trial_has_its_bracket(scheduler: AsyncHyperBandScheduler) -> None:
    """Put there as we do, and read by Ray, which takes what the trial reports into the bracket's rungs."""
    trial = Trial("chain", stub=True)
    bracket = private(scheduler, "_brackets")[1]
    private(scheduler, "_trial_info")[trial.trial_id] = bracket
    assert scheduler.on_trial_result(None, trial, {"training_iteration": 4, "accuracy": 0.5}) == scheduler.CONTINUE
    assert private(bracket, "_rungs") == [(8, {}), (4, {trial.trial_id: 0.5}), (2, {})]


def test_private_experiment_analysis_is_what_a_result_grid_was_made_of() -> None:
    analysis = SimpleNamespace(trials=[])
    assert private(ResultGrid(analysis), "_experiment_analysis") is analysis


def test_private_names_that_are_gone_are_told_with_the_module_that_reads_them() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"has no SimpleNamespace\._rungs, which safs_ray/tune/halving\.py"):
        private(SimpleNamespace(), "_rungs")


def test_private_attributes_bound_ray_below_its_next_minor_release() -> None:
    extra = PROJECT["optional-dependencies"]["cluster"]
    asked = [each for each in map(Requirement, [*PROJECT["dependencies"], *extra]) if each.name == "ray"]
    assert [each.extras for each in asked] == [{"tune"}, {"default"}]
    here = Version(ray.__version__)
    for each in asked:
        assert here in each.specifier
        assert f"{here.major}.{here.minor + 1}.0" not in each.specifier
