from __future__ import annotations

from safs_ray.config import Configuration, overridden, validate
from safs_ray.keys import keys, written


def test_every_key_is_there_with_its_type_default_and_meaning() -> None:
    found = {key.path: key for key in keys()}
    sections = Configuration().model_dump()
    assert {path.split(".")[0] for path in found} == set(sections)
    assert {path for path in found if path.startswith("finetune.")} == {
        f"finetune.{key}" for key in sections["finetune"]
    }
    for key in found.values():
        assert key.kind
        assert key.meaning, key.path
        assert "\n" not in key.meaning
    brackets = found["tune.brackets"]
    assert (brackets.kind, brackets.default) == ("integer from 1 to 16", "1")
    assert found["search.start"].kind == "default|random"
    assert found["tune.space.sgd.momentum"].kind == "[number, number]"
    assert found["data.mean"].kind.endswith(" or null")


def test_the_defaults_written_out_are_the_defaults() -> None:
    words = [f"{key.path}={key.default}" for key in keys()]
    assert validate(overridden({}, words)) == Configuration()


def test_written() -> None:
    assert [written(value) for value in ("text", 3, 2.0, 1e-5, None, True, ["a", 0.5])] == [
        "text", "3", "2", "1e-05", "null", "true", "[a, 0.5]",
    ]  # fmt: skip
