"""From YAML and dotted overrides to a configuration, and back."""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, cast

import yaml
from pydantic import ValidationError

from safs_ray.config.configuration import Configuration
from safs_ray.config.loader import LONGEST_TEXT, load_yaml
from safs_ray.config.pruning import pattern_of
from safs_ray.config.recipes import CHOSEN
from safs_ray.config.refusals import SECRET, ConfigurationError, refusal, shortened
from safs_ray.config.section import Section, at_home

LARGEST = 10**30
"""No number is larger; of larger ones only the order of magnitude is told."""

DEEPEST = 20
TOO_DEEP = f"allowed: at most {DEEPEST} keys within each other"


def load(path: str | Path, overrides: Sequence[str] = ()) -> Configuration:
    """Read a YAML file and apply ``key.path=value`` overrides; the values are YAML too.

    Raises:
        ConfigurationError: the file is missing or not YAML, or a key or value is not allowed.

    Examples:
        >>> _ = Path("mine.yaml").write_text("search: {steps: 8}")
        >>> load("mine.yaml", ["search.epochs=5"]).search.epochs
        5
    """
    return validate(overridden(read(path), overrides))


def validate(values: Mapping[str, Any]) -> Configuration:
    """Check nested keys and values.

    Raises:
        ConfigurationError: with the first fault found.

    Examples:
        >>> validate({"search": {"steps": 8}}).search.steps
        8
        >>> validate({"search": {"steps": -1}})
        Traceback (most recent call last):
        safs_ray.config.refusals.ConfigurationError: search.steps=-1: input should be greater than or equal to 0
    """
    try:
        return Configuration.model_validate_json(json.dumps(_current(_plain(values))))
    except ValidationError as error:
        raise _first_fault(error) from None


def _current(values: dict[str, Any]) -> dict[str, Any]:
    """The values without what only runs of older versions have: ``search.rungs``, where nothing is in it."""
    search = values.get("search")
    return _without(values, "search", "rungs") if isinstance(search, dict) and search.get("rungs") == [] else values


def quickstart() -> Path:
    """quickstart.yaml in an installed package, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "tune_configs" / "quickstart.yaml"
    return installed if installed.exists() else package.parent / "tune_configs" / "quickstart.yaml"


def dump(configuration: Configuration) -> str:
    """The configuration as YAML, every key written out."""
    return yaml.safe_dump(configuration.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read(path: str | Path) -> dict[str, Any]:
    """The nested keys and values in a YAML file.

    Raises:
        ConfigurationError: the file is missing or not YAML.
    """
    try:
        with Path(at_home(str(path))).open("rb") as file:
            text = file.read(4 * LONGEST_TEXT).decode()  # no more of a file that does not end
    except OSError as error:
        raise refusal("configuration", str(path), f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise refusal("configuration", str(path), "is not a text file") from None
    except ValueError as error:
        raise refusal("configuration", str(path), str(error)) from None
    return parse(text, str(path))


def parse(text: str, name: str) -> dict[str, Any]:
    """The mapping in a YAML text; ``name`` is what an error calls it."""
    try:
        values = load_yaml(text)
    except Exception as error:  # YAML's constructors raise whatever their conversions raise
        raise refusal("configuration", name, f"is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise refusal("configuration", name, "must hold sections, such as 'search:', with keys")
    return values


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Nested keys and values with ``key.path=value`` overrides applied.

    A structure N:M says itself how many weights stay, and where: given here, it replaces the sparsity and the pruner of
    the values. A number of multiply-adds or a latency replaces the sparsity. A recipe chooses keys: given here, it
    replaces them, and any of them replaces a recipe.

    Raises:
        ConfigurationError: an override is not of that form.

    Examples:
        >>> overridden({"search": {"steps": 8}}, ["search.steps=5", "run.name=mine"])
        {'search': {'steps': 5}, 'run': {'name': 'mine'}}
    """
    pairs = [_key_and_value(override) for override in overrides]
    given = dict(pairs)
    if pattern_of(given.get("pruning.structure")):
        values = _without(values, "pruning", "sparsity", "recipe", "recipes", *CHOSEN)
    for key, other in (("macs", "latency"), ("latency", "macs")):
        if given.get(f"pruning.{key}") is not None:
            values = _without(values, "pruning", "sparsity", other)
    if given.get("pruning.recipe"):
        values = _without(values, "pruning", "recipes", *CHOSEN)
    elif any(f"pruning.{key}" in given for key in CHOSEN):
        values = _without(values, "pruning", "recipe", "recipes")
    for key, value in pairs:
        values = _with(values, key.split("."), value, key)
    return values


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by the path of their keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def beside_budget(values: Mapping[str, Any], overrides: Sequence[str]) -> frozenset[str]:
    """The keys that are given together with ``run.budget``, which leaves them as they are.

    These are the overrides, and the keys of a file that has a budget of its own.

    Examples:
        >>> sorted(beside_budget({"search": {"steps": 8}}, ["run.budget=20m", "dense.epochs=5"]))
        ['dense.epochs', 'run.budget']
        >>> sorted(beside_budget({"search": {"steps": 8}, "run": {"budget": "20m"}}, []))
        ['run.budget', 'search.steps']
    """
    file, words = leaves(values), leaves(overridden({}, overrides))
    return frozenset(words | (file if file.get("run.budget") else {}))


def _key_and_value(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise refusal("override", override, "must be key.path=value, such as search.steps=5")
    if key.count(".") > DEEPEST:
        raise refusal(key, text, TOO_DEEP)
    try:
        return key, load_yaml(text)
    except Exception:  # as in parse
        raise refusal(key, text, "is not a YAML value") from None


def _without(values: Mapping[str, Any], section: str, *keys: str) -> dict[str, Any]:
    """A copy without some keys of a section."""
    inner = values.get(section)
    if not isinstance(inner, Mapping):
        return dict(values)
    return {**values, section: {name: value for name, value in inner.items() if name not in keys}}


def _with(values: Mapping[str, Any], path: Sequence[str], value: object, key: str) -> dict[str, Any]:
    """A copy with one nested key set."""
    head, *rest = path
    if not rest:
        return {**values, head: value}
    inner = values.get(head) or {}
    if not isinstance(inner, Mapping):
        raise refusal(key, value, f"{shortened(head)} is a value and has no keys of its own")
    return {**values, head: _with(inner, rest, value, key)}


def _plain(value: object, path: tuple[str, ...] = ()) -> Any:
    """A value as JSON has it; paths become texts.

    Raises:
        ConfigurationError: JSON has no such value, or no key may have it whatever it means.
    """
    key = ".".join(path) or "configuration"
    if len(path) > DEEPEST:
        raise refusal(key, "...", TOO_DEEP)
    if isinstance(value, Mapping):
        named = [(_text(str(_plain(name, path)), key), inner) for name, inner in value.items()]
        return {name: _plain(inner, (*path, name)) for name, inner in named}
    if isinstance(value, list | tuple):
        return [_plain(inner, (*path, str(place))) for place, inner in enumerate(value)]
    if isinstance(value, str | PurePath):
        return _text(str(value), key)
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise refusal(key, f"{'-' if value < 0 else ''}2**{value.bit_length() - 1}...", f"must be below {LARGEST:.0e}")
    if value is None or isinstance(value, bool | int | float):
        return value
    plain = "must be a text, a number, true, false, null, a list or keys with values"
    raise refusal(key, str(value), f"{plain}, is of type {type(value).__name__}")


def _text(text: str, key: str) -> str:
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text):
        raise refusal(key, text, "must be a text without control characters")
    if SECRET.search(text):
        raise refusal(key, text, "must hold no password or key, since files and logs show it; use the environment")
    return text


def _first_fault(error: ValidationError) -> ConfigurationError:
    fault = error.errors(include_url=False)[0]
    path = [str(part) for part in fault["loc"]]
    if fault["type"] == "value_error" and path[-1:] and path[-1].isdigit():
        path.pop()  # what is wrong with one of several values needs no number
    key = ".".join(path)
    reason = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return refusal(key, fault["input"], f"unknown key; {_alternatives(path)}")
    if fault["type"] == "model_type":
        known = ", ".join(_section(path).model_fields)
        return refusal(key, fault["input"], f"must be a section, with keys and values; allowed: {known}")
    if fault["type"] == "value_error" and _is_section(path):
        return ConfigurationError(f"{key}: {reason}" if key else reason)  # a rule between keys names them
    return refusal(key, fault["input"], reason[0].lower() + reason[1:])


def _alternatives(path: Sequence[str]) -> str:
    known = list(_section(path[:-1]).model_fields)
    close = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}allowed: {', '.join(known)}"


def _is_section(path: Sequence[str]) -> bool:
    """Whether a section lies at a path, and no value."""
    found = _annotation(path)
    return isinstance(found, type) and issubclass(found, Section)


def _section(path: Sequence[str]) -> type[Section]:
    """The section at a path where one lies."""
    return cast(type[Section], _annotation(path))


def _annotation(path: Sequence[str]) -> Any:
    """The type of what lies at a path; None within a value."""
    found: Any = Configuration
    for part in path:
        field = getattr(found, "model_fields", {}).get(part)
        found = field and field.annotation
    return found
