from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safs_ray.config import ConfigurationError
from safs_ray.references import is_lent, is_reference, lend, resolve


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of a user, which holds a function and a number."""
    (tmp_path / "of_a_user.py").write_text("def double(x):\n    return 2 * x\n\nnumber = 3\n")
    (tmp_path / "broken_of_a_user.py").write_text("raise ValueError('two\\nlines')\n")
    (tmp_path / "script_of_a_user.py").write_text("import sys\nsys.exit('usage: script FILE')\n")
    (tmp_path / "lazy_of_a_user.py").write_text("def __getattr__(name):\n    raise RuntimeError(name)\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "of_a_user"


@pytest.mark.parametrize("name", ["math:sqrt", "os.path:join"])
def test_references(name: str) -> None:
    assert is_reference(name)


@pytest.mark.parametrize("name", ["relu", "math.sqrt", ":sqrt", "math:", "a b:c", "parquet:/data", "a:b:c", "1a:b"])
def test_other_names(name: str) -> None:
    assert not is_reference(name)


def test_the_function_is_found(module: str) -> None:
    assert resolve(f"{module}:double", "key")(4) == 8


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere_at_all:f", "nowhere_at_all cannot be imported (ModuleNotFoundError: "),
        ("broken_of_a_user:f", "cannot be imported (ValueError: two lines)"),
        ("script_of_a_user:f", "cannot be imported (SystemExit: usage: script FILE)"),
        ("lazy_of_a_user:f", "cannot be imported (RuntimeError: f)"),
        ("of_a_user.inner:f", "of_a_user.inner cannot be imported (ModuleNotFoundError: "),
        ("of_a_user:triple", "of_a_user has no function triple"),
        ("of_a_user:number", "of_a_user has no function number"),
        ("relu", "must be package.module:function"),
        ("", "must be package.module:function"),
        (":", "must be package.module:function"),
        ("of_a_user:double()", "must be package.module:function"),
        ("of_a_user:double.__globals__", "must be package.module:function"),
        (".of_a_user:double", "must be package.module:function"),
        ("../of_a_user:double", "must be package.module:function"),
        ("of_a_user :double", "must be package.module:function"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_cannot_be_found_is_one_line(name: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        resolve(name, "model.name")
    assert str(error.value).startswith(f"model.name={name}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    ["os:abort", "os.path:join", "builtins:breakpoint", "sys:exit", "__main__:f", "safs_ray.tune.__main__:main"],
)
def test_functions_of_python_and_of_this_package_cannot_be_reached(name: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        resolve(name, "data.source")
    assert str(error.value) == (
        f"data.source={name}: {name.split(':')[0]} is Python's or safs_ray's own; allowed: modules of yours or "
        "installed ones"
    )


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=12) | st.from_regex(r"\A[a-z_.]{0,5}:[a-z_.]{0,5}\Z"))
def test_any_text_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        resolve(name, "key")
    assert str(error.value).isprintable()


def test_a_function_that_is_lent_is_found_by_its_name() -> None:
    one, other = lend(lambda: 1, "Net"), lend(lambda: 2, "Net")
    assert one.startswith("memory:Net_")
    assert is_reference(one)
    assert is_lent(one)
    assert not is_lent("mine:network")
    assert (resolve(one, "key")(), resolve(other, "key")()) == (1, 2)


def test_a_function_that_another_process_has_lent_is_told_to_be_gone() -> None:
    with pytest.raises(ConfigurationError, match=r"^key=memory:Net_9999: was an object in memory, of a process that"):
        resolve("memory:Net_9999", "key")
