"""Values of configurations, and how they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from safs_ray.config import (
    Configuration,
    ConfigurationError,
    dump,
    load,
    validate,
)

DEFAULTS: dict[str, Any] = yaml.safe_load(dump(Configuration()))


def nested(path: str, value: object) -> dict[str, Any]:
    """The mapping that has one value, at a dotted path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def at(configuration: Configuration, path: str) -> object:
    value: object = configuration
    for key in path.split("."):
        value = getattr(value, key)
    return value


def inside(values: Mapping[str, Any], path: str) -> object:
    value: Any = values
    for key in path.split("."):
        value = value[key]
    return value


def message(values: Mapping[str, Any]) -> str:
    """The message with which values are refused; one line."""
    told = told_by(lambda: validate(values))
    assert told is not None
    return told


def message_of_file(text: str | bytes) -> str:
    """The message with which run.yaml, with this content, is refused; one line."""
    Path("run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    told = told_by(lambda: load("run.yaml"))
    assert told is not None
    return told


def told_by(attempt: Callable[[], Configuration]) -> str | None:
    """The message of a refusal, one short printable line; None when there is none. Any other error passes."""
    try:
        attempt()
    except ConfigurationError as error:
        told = str(error)
        assert told.isprintable(), told
        assert 0 < len(told) <= 1000
        return told
    return None


def shown(value: object) -> str:
    """How a message tells a value of JSON, without the middle of a long one."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:30]}...{text[-47:]}"


def leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    return [
        path
        for key, value in values.items()
        for path in (leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]
