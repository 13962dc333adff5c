"""What a run may change when it goes on, and what has to be found anew because of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from safs_ray.config import (
    CONFIGURATION,
    PAGE,
    RESULTS,
    Configuration,
    ConfigurationError,
    counted,
    dump,
    leaves,
    overridden,
    parse,
    refusal,
    validate,
)
from safs_ray.storage import Folder

FREE = (
    "run.address", "run.device", "run.verbose", "run.events", "tune.max_concurrent", "tune.resources.cpu",
    "tune.resources.gpu", "run.checkpoint_seconds", "data.memory",
)  # fmt: skip
"""Where and how fast a run is computed."""

LONGER = (
    "run.budget", "tune.trials", "tune.max_t", "tune.scheduler", "tune.grace_period", "tune.reduction_factor",
    "final.ablations",
)  # fmt: skip
"""How far a search goes, and which rows are made: what was found stays of use."""


def read_begun(folder: Folder) -> dict[str, Any]:
    """Nested keys and values of a run that was begun, wherever its folder lies now.

    Raises:
        ConfigurationError: its configuration is no whole one.
    """
    file = f"{folder}/{CONFIGURATION}"
    values = parse(folder.read(CONFIGURATION).decode(errors="replace"), file)
    written = leaves(values)
    try:
        whole = leaves(validate(values).model_dump(mode="json"))
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    for key in whole:
        if key not in written:  # it would have another value than the run was begun with
            raise refusal("--resume", file, f"lacks {key}: it was cut short, or written by another version")
    values["run"] |= {"storage": str(folder.parent) or "/", "name": folder.name}
    return values


def changed(begun: Mapping[str, Any], words: Sequence[str]) -> Configuration:
    """The configuration of a run that was begun, with ``key.path=value`` changes.

    Args:
        begun: nested keys and values of the run.

    Raises:
        ConfigurationError: a change would mix results of different settings in one run, or would throw some away.
    """
    before = validate(begun)
    after = validate(overridden(dict(begun), words))
    keys = {word.partition("=")[0] for word in words}
    for key, (old, new) in sorted(differences(before, after).items(), key=lambda change: change[0] not in keys):
        if key not in FREE + LONGER:
            raise refusal(key, new, f"the run was begun with {old!r}, and results of both would mix; {_allowed()}")
    if after.tune.trials < before.tune.trials:
        raise refusal("tune.trials", after.tune.trials, f"the run was begun with {before.tune.trials}; allowed: more")
    if after.run.budget_seconds < before.run.budget_seconds:
        raise refusal(
            "run.budget", after.run.budget, f"the run was begun with {before.run.budget or 'null'}; allowed: more"
        )
    if after.iterations < before.iterations:
        raise refusal("tune.max_t", after.tune.max_t, f"trials had {counted(before.iterations, 'step')}; allowed: more")
    return after


def _allowed() -> str:
    return f"a run that goes on may change {', '.join(FREE + LONGER)}"


def differences(before: Configuration, after: Configuration) -> dict[str, tuple[Any, Any]]:
    """Old and new value by the path of each key that is not equal."""
    old, new = leaves(before.model_dump(mode="json")), leaves(after.model_dump(mode="json"))
    return {key: (old[key], new[key]) for key in new if old[key] != new[key]}


def pending(configuration: Configuration, folder: Folder) -> dict[str, tuple[Any, Any]]:
    """What a run is to go on with that its folder does not say yet: old and new value by key."""
    return differences(validate(read_begun(folder)), configuration)


def note(configuration: Configuration, folder: Folder) -> None:
    """Write down what a run goes on with, and reopen it where that may lead to another end."""
    changes = pending(configuration, folder)
    if not changes:
        return
    if reopens(changes):
        reopen(folder)
    if "run.budget" in changes:
        from safs_ray.tune import (
            spending,  # here: it knows the experiment, and so torch, which a mistake need not wait for
        )

        spending.reopen(folder)
    text = folder.read(CONFIGURATION).decode()
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    notes = "".join(f"# resumed with {key}: {new}, was {old}\n" for key, (old, new) in changes.items())
    folder.write(CONFIGURATION, (header + notes + dump(configuration)).encode())


def reopens(changes: Iterable[str]) -> bool:
    """Whether a run with these keys changed may end otherwise than it did."""
    return bool(set(changes) & set(LONGER))


def reopen(folder: Folder) -> None:
    """Let a run go on that had an end."""
    folder.remove(RESULTS)
    folder.remove(PAGE)
