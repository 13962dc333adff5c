"""Every key of a configuration with its type, default and meaning, as the models of :mod:`safs_ray.config` say them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from safs_ray.config import Configuration

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """A key that holds a value.

    Attributes:
        path: with dots, as on the command line.
        kind: what values it takes, in a few words.
        default: as it is written in YAML.
        meaning: one line.
    """

    path: str
    kind: str
    default: str
    meaning: str


def keys() -> list[Key]:
    """All keys in the order of the models."""
    schema = Configuration.model_json_schema()
    return list(_keys(schema, schema["$defs"], Configuration().model_dump(mode="json"), ""))


def _keys(section: Schema, sections: Mapping[str, Schema], defaults: Mapping[str, Any], prefix: str) -> Iterator[Key]:
    for name, schema in section["properties"].items():
        path, default = f"{prefix}{name}", defaults[name]
        if "$ref" in schema:
            yield from _keys(sections[schema["$ref"].rpartition("/")[2]], sections, default, f"{path}.")
        else:
            yield Key(path, _kind(schema), written(default), schema.get("description", ""))


def _kind(schema: Schema) -> str:
    """For instance "integer 1 to 16" or "list of number"."""
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return "|".join(schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_kind(each) for each in schema['prefixItems'])}]"
        return f"list of {_kind(schema['items'])}"
    names = {"string": "text", "boolean": "true|false"}
    kind = str(schema["type"])
    return names.get(kind, kind) + _range(schema)


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    words = []
    if low is not None:
        words.append(f"from {low:g}")
    if above is not None:
        words.append(f"above {above:g}")
    if high is not None:
        words.append(f"to {high:g}")
    if below is not None:
        words.append(f"below {below:g}")
    return f" {' '.join(words)}" if words else ""


def written(value: Any) -> str:
    """A value as it is written in YAML, on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(written(each) for each in value)}]"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
