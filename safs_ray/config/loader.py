"""A safe, repaired loader of YAML 1.1, for texts of bounded size."""

from __future__ import annotations

import re
from typing import Any

import yaml

LONGEST_TEXT, MOST_VALUES = 100_000, 10_000
"""Of a text: characters, and keys and values with those that aliases repeat."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 of plain values, repaired.

    ``1e-3`` is a number; ``2:4``, ``010`` and dates are texts; a key given twice is an error, and so are aliases that
    repeat each other until a short text holds more than memory does.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        inner, count = [node], 0
        while inner:
            one = inner.pop()
            count += 1
            if count > MOST_VALUES:
                raise yaml.constructor.ConstructorError(None, None, f"it holds more than {MOST_VALUES:,} values")
            if isinstance(one, yaml.CollectionNode):
                inner += [part for entry in one.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                continue
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
for _sign in "-+0123456789":  # first of all, before octal numbers, those to the base of 60, and timestamps
    _Loader.yaml_implicit_resolvers[_sign].insert(
        0, ("tag:yaml.org,2002:str", re.compile(r"^([-+]?0[\d_]+|[-+]?[\d_]+(:[\d_]+)+(\.\d*)?|\d{4}-\d.*)$"))
    )


def load_yaml(text: str) -> Any:
    """The value of a YAML text; raises whatever a wrong one leads to."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"it has more than {LONGEST_TEXT:,} characters")
    return yaml.load(text, _Loader)
