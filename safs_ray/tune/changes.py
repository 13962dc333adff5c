"""What a run may change when it goes on, and what has to be found anew because of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safs_ray.config import Configuration, overridden, refusal, validate
from safs_ray.report.page import PAGE
from safs_ray.report.results import RESULTS
from safs_ray.storage import Folder
from safs_ray.tune.journal import JOURNALS, Journal

FREE = (
    "run.address", "run.device", "run.verbose", "run.events", "tune.max_concurrent", "tune.resources.cpu",
    "tune.resources.gpu", "run.checkpoint_seconds",
)  # fmt: skip
"""Where and how fast a run is computed."""

LONGER = (
    "tune.trials", "tune.max_t", "tune.scheduler", "tune.grace_period", "tune.reduction_factor", "final.ablations",
)  # fmt: skip
"""How far a search goes, and which rows are made: what was found stays of use."""


def changed(begun: Mapping[str, Any], words: Sequence[str]) -> Configuration:
    """The configuration of a run that was begun, with ``key.path=value`` changes.

    Args:
        begun: nested keys and values of the run.

    Raises:
        ConfigurationError: a change would mix results of different settings in one run, or would throw some away.
    """
    before = validate(begun)
    after = validate(overridden(dict(begun), words))
    for key, (old, new) in differences(before, after).items():
        if key not in FREE + LONGER:
            raise refusal(key, new, f"the run was begun with {old!r}, and results of both would mix; {_allowed()}")
    if after.tune.trials < before.tune.trials:
        raise refusal("tune.trials", after.tune.trials, f"the run was begun with {before.tune.trials}; allowed: more")
    if after.iterations < before.iterations:
        raise refusal("tune.max_t", after.tune.max_t, f"trials had {before.iterations} steps; allowed: more")
    return after


def _allowed() -> str:
    return f"a run that goes on may change {', '.join(FREE + LONGER)}"


def differences(before: Configuration, after: Configuration) -> dict[str, tuple[Any, Any]]:
    """Old and new value by the path of each key that is not equal."""
    old, new = leaves(before.model_dump(mode="json")), leaves(after.model_dump(mode="json"))
    return {key: (old[key], new[key]) for key in new if old[key] != new[key]}


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by the path of their keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def reopen(folder: Folder, changes: Sequence[str]) -> None:
    """Let a run go on that had an end, or whose sweeps had a winner, where changes may lead to another.

    Args:
        changes: the keys that are changed.
    """
    if not set(changes) & set(LONGER):
        return
    for sweep in ("SAFS", "stage 2"):
        Journal(folder / JOURNALS, sweep).reopen()
    folder.remove(RESULTS)
    folder.remove(PAGE)
