from __future__ import annotations

import copy
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from safs_ray import config
from safs_ray.config import (
    Configuration,
    ConfigurationError,
    dump,
    load,
    parse,
    validate,
)
from safs_ray.config.names import OPERATORS
from tests.config.told import DEFAULTS, at, inside, leaves, message, message_of_file, nested, shown, told_by

SHIPPED = sorted((Path(__file__).parents[2] / "tune_configs").glob("*.yaml"))


class TestYaml:
    @pytest.fixture(autouse=True)
    def _in_an_empty_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("text", "value"), [("1e-3", 0.001), ("1E-3", 0.001), ("2.5e-2", 0.025), ("1.e0", 1.0), ("1e+0", 1.0)]
    )
    def test_scientific_notation_is_a_number(self, text: str, value: float, tmp_path: Path) -> None:
        path = tmp_path / "run.yaml"
        path.write_text(f"dense: {{hyperparameters: {{learning_rate: {text}}}}}\n")
        assert load(path).dense.hyperparameters.learning_rate == value

    def test_a_name_that_only_looks_like_scientific_notation_stays_text(self, tmp_path: Path) -> None:
        path = tmp_path / "run.yaml"
        path.write_text("run: {name: e5, storage: 1e3x}\n")
        assert load(path).run.name == "e5"
        assert load(path).run.storage == "1e3x"

    def test_an_empty_file_is_all_defaults(self, tmp_path: Path) -> None:
        path = tmp_path / "run.yaml"
        path.write_text("# nothing\n")
        assert load(path) == Configuration()

    @pytest.mark.parametrize(
        "text",
        ["run: {seed: 1}\nrun: {seed: 2}\n", "run: {seed: 1, seed: 1}\n", "run:\n  name: a\n  seed: 1\n  name: b\n"],
    )
    def test_a_key_given_twice_is_refused(self, text: str) -> None:
        told = message_of_file(text)
        assert told.startswith("configuration=run.yaml: is not valid YAML: ")
        assert "stands twice" in told

    @pytest.mark.parametrize(
        "text",
        [
            "run: [1\n",
            "run: 'a\n",
            "run:\n\tseed: 1\n",
            "run: {}\n---\nrun: {}\n",
            "run: !!python/object:object {}\n",
            "run: *nothing\n",
            "[" * 5000,
            "run: !!set {a, b}\n",
            "run: {name: !!binary aGk=}\n",
            "run: {name: =}\n",
            "run: {seed: 0b_}\n",
            "run: {seed: !!int abc}\n",
            "run: {seed: !!bool abc}\n",
            "run: {seed: !!timestamp abc}\n",
            "run: {seed: " + "9" * 5000 + "}\n",
            "? [a, b]\n: 1\n",
        ],
        ids=[
            "open list",
            "open quote",
            "tab",
            "two documents",
            "python object",
            "unknown alias",
            "deep",
            "set",
            "bytes",
            "equals sign",
            "binary without digits",
            "tagged integer",
            "tagged boolean",
            "tagged timestamp",
            "5000 digits",
            "list as a key",
        ],
    )
    def test_what_is_not_yaml_is_refused(self, text: str) -> None:
        assert message_of_file(text).startswith("configuration=run.yaml: is not valid YAML: ")

    @pytest.mark.parametrize(
        "text",
        ["2020-01-01: 1\n", "? !!binary aGk=\n: 1\n", "run: &loop {name: *loop}\n", "? {a: 1}\n: 1\n", "null: 1\n"],
        ids=["date as a key", "binary as a key", "loop", "keys as a key", "null as a key"],
    )
    def test_odd_keys_are_refused(self, text: str) -> None:
        assert message_of_file(text)

    @pytest.mark.parametrize("text", ["2020-01-01", "2020-13-45", "007", "010", "1:30", "1:30:00"])
    def test_what_yaml_would_make_something_else_of_is_text(self, text: str) -> None:
        assert validate(parse(f"run: {{storage: {text}}}", "file")).run.storage == text
        assert message(parse(f"run: {{seed: {text}}}", "file")) == f"run.seed={text}: input should be a valid integer"

    @pytest.mark.parametrize(
        ("text", "value"),
        [(".5e0", 0.5), ("+5.e-1", 0.5), ("5e-1", 0.5), (".5", 0.5), ("0", 0), ("0.0", 0), ("0x0", 0)],
    )
    def test_numbers_are_numbers(self, text: str, value: float) -> None:
        assert validate(parse(f"pruning: {{sparsity: {text}}}", "file")).pruning.sparsity == value

    @pytest.mark.parametrize("text", [".5e999", "-1e400", ".nan", ".inf", "-.INF"])
    def test_numbers_that_are_not_finite_are_refused(self, text: str) -> None:
        told = message(parse(f"pruning: {{sparsity: {text}}}", "file"))
        assert told.startswith("pruning.sparsity=")
        assert told.endswith(": input should be a finite number")

    def test_anchors_and_merges_are_understood(self) -> None:
        text = "dense: {hyperparameters: &same {learning_rate: 0.5}}\npruning: {hyperparameters: *same}\n"
        values = validate(parse(text, "file"))
        assert values.pruning.hyperparameters == values.dense.hyperparameters
        text = "dense: {hyperparameters: &same {learning_rate: 0.5}}\npruning: {hyperparameters: {<<: *same}}\n"
        assert validate(parse(text, "file")) == values

    @pytest.mark.parametrize(
        "line", ["a{next}: &a{next} [*a{last}, *a{last}]", "a{next}: &a{next} {{<<: [*a{last}, *a{last}]}}"]
    )
    def test_a_short_text_that_holds_much_is_refused_at_once(self, line: str) -> None:
        first = "a0: &a0 " + ("{k: 1}" if "<<" in line else "[x]")
        lines = [line.format(last=number, next=number + 1) for number in range(60)]
        start = time.process_time()
        told = message_of_file("\n".join([first, *lines]))
        assert told == "configuration=run.yaml: is not valid YAML: it holds more than 10,000 values"
        assert time.process_time() - start < 2

    @pytest.mark.parametrize("content", ["a" * 100_001, "- " * 60_000, "{" * 200_000, "\n" * 10**6])
    def test_a_long_text_is_refused_at_once(self, content: str) -> None:
        start = time.process_time()
        assert message_of_file(content).endswith(": is not valid YAML: it has more than 100,000 characters")
        assert time.process_time() - start < 2

    @pytest.mark.parametrize(
        "tag",
        ["python/object/apply:os.mkdir", "python/object/new:os.mkdir", "python/name:os.mkdir", "python/module:os"],
    )
    def test_no_tag_reaches_code(self, tag: str) -> None:
        assert "could not determine a constructor" in message_of_file(f"run: !!{tag} [made]\n")
        assert not Path("made").exists()

    def test_a_file_without_end_is_refused(self) -> None:
        told = told_by(lambda: load("/dev/zero"))
        assert told == "configuration=/dev/zero: is not valid YAML: it has more than 100,000 characters"

    def test_a_name_that_no_file_can_have_is_told(self) -> None:
        for name in ("a\0b", "a" * 5000):
            assert told_by(lambda name=name: load(name))  # type: ignore[misc]

    @pytest.mark.parametrize("text", ["hello", "3", "[1, 2]", "- run\n"])
    def test_a_file_without_sections_is_refused(self, text: str) -> None:
        assert "must hold sections" in message_of_file(text)

    def test_a_file_that_is_not_text_is_refused(self) -> None:
        assert "is not a text file" in message_of_file(b"\xff\xfe\x00\x01")

    def test_a_missing_file_is_told(self) -> None:
        with pytest.raises(ConfigurationError) as refused:
            load("none.yaml")
        assert str(refused.value) == "configuration=none.yaml: cannot be read (No such file or directory)"

    def test_a_folder_in_place_of_a_file_is_told(self) -> None:
        with pytest.raises(ConfigurationError) as refused:
            load(".")
        assert str(refused.value) == "configuration=.: cannot be read (Is a directory)"

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
    def test_shipped_configurations_are_valid(self, path: Path) -> None:
        assert load(path).run.name


class TestOverrides:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text("run: {seed: 7, name: written}\nsearch: {steps: 4}\n")
        return path

    @pytest.mark.parametrize(
        ("override", "key", "value"),
        [
            ("run.seed=3", "run.seed", 3),
            ("search.steps=9", "search.steps", 9),
            ("dense.hyperparameters.learning_rate=1e-2", "dense.hyperparameters.learning_rate", 0.01),
            ("data.flip=true", "data.flip", True),
            ("data.size=null", "data.size", None),
            ("data.size=", "data.size", None),
            ("run.storage=s3://bucket/a=b", "run.storage", "s3://bucket/a=b"),
            ("search.operators=[relu, tanh]", "search.operators", ("relu", "tanh")),
            ("search={steps: 3}", "search.steps", 3),
            ("run.name='5'", "run.name", "5"),
            ("pruning={structure: 2:4}", "pruning.structure", "2:4"),
            ("pruning.structure=10:16", "pruning.structure", "10:16"),
        ],
    )
    def test_an_override_sets_one_key(self, path: Path, override: str, key: str, value: object) -> None:
        changed = load(path, [override])
        assert at(changed, key) == value
        if not key.startswith("run."):
            assert changed.run == load(path).run

    def test_an_override_narrows_one_range_and_keeps_the_others(self, path: Path) -> None:
        before, after = load(path).tune.space, load(path, ["tune.space.adam.learning_rate=[1e-3,1e-2]"]).tune.space
        assert after.adam.learning_rate == (1e-3, 1e-2)
        adam = before.adam.model_copy(update={"learning_rate": (1e-3, 1e-2)})
        assert after == before.model_copy(update={"adam": adam})

    def test_an_override_narrows_the_choice_and_keeps_the_ranges(self, path: Path) -> None:
        before, after = load(path).tune.space, load(path, ["tune.space.optimizers=[adamw]"]).tune.space
        assert before.optimizers == ("sgd", "adam", "tadam", "fromage")
        assert after == before.model_copy(update={"optimizers": ("adamw",)})

    def test_an_override_replaces_the_whole_space(self, path: Path) -> None:
        space = load(path, ["tune.space={optimizers: [sgd], sgd: {schedules: [step], momentum: [0, 0.5]}}"]).tune.space
        assert (space.optimizers, space.sgd.schedules, space.sgd.momentum) == (("sgd",), ("step",), (0.0, 0.5))

    def test_of_two_overrides_the_last_holds(self, path: Path) -> None:
        assert load(path, ["run.seed=1", "run.seed=2"]).run.seed == 2

    def test_overrides_fill_a_section_that_the_file_leaves_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "run.yaml"
        path.write_text("run:\n")
        assert load(path, ["run.seed=1"]).run.seed == 1

    @pytest.mark.parametrize(
        ("override", "told"),
        [
            ("search.steps", "override=search.steps: must be key.path=value, such as search.steps=5"),
            ("=5", "override==5: must be key.path=value, such as search.steps=5"),
            ("run.seed.x=5", "run.seed.x=5: seed is a value and has no keys of its own"),
            ("search.steps=[1", "search.steps=[1: is not a YAML value"),
            ("search={steps: 1, steps: 2}", "search={steps: 1, steps: 2}: is not a YAML value"),
            ("search.steps=-1", "search.steps=-1: input should be greater than or equal to 0"),
            ("run.seed='1'", "run.seed=1: input should be a valid integer"),
            ("a." * 5000 + "b=1", "a." * 15 + "..." + "a." * 23 + "b=1: allowed: at most 20 keys within each other"),
            (".=1", "''={\"\": 1}: unknown key; allowed: " + ", ".join(DEFAULTS)),
            ("run..seed=1", 'run.={"seed": 1}: unknown key; allowed: ' + ", ".join(DEFAULTS["run"])),
            ("search.operators.0=relu", 'search.operators={"0": "relu"}: input should be a valid array'),
        ],
    )
    def test_an_override_that_cannot_be_applied_is_told(self, path: Path, override: str, told: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            load(path, [override])
        assert str(refused.value) == told

    @pytest.mark.parametrize(
        "override",
        [
            "search.steps=" + "[" * 5000,
            "run.name=!!timestamp 2020-01-01",
            "run.seed=0b_",
            "run.name={[1, 2]: 3}",
            "run.seed=" + "9" * 5000,
        ],
        ids=["deep", "timestamp", "binary without digits", "list as a key", "5000 digits"],
    )
    def test_an_override_that_yaml_cannot_construct_is_told(self, path: Path, override: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            load(path, [override])
        assert str(refused.value).startswith(override.partition("=")[0])

    @pytest.mark.parametrize("override", ["two\nlines", "two\nlines=1", "run.name=two\n\n  lines", "run.two\nlines=1"])
    def test_an_override_of_several_lines_is_told_in_one(self, path: Path, override: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            load(path, [override])
        assert "\n" not in str(refused.value)


QUICKSTART = SHIPPED[0].with_name("quickstart.yaml")


class TestStructures:
    """N:M on the command line, on a file that gives a sparsity of its own."""

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
    @pytest.mark.parametrize(("structure", "sparsity"), [("2:4", 0.5), ("1:4", 0.75)])
    def test_a_pattern_replaces_the_sparsity_of_the_file(self, path: Path, structure: str, sparsity: float) -> None:
        found = load(path, [f"pruning.structure={structure}"]).pruning
        assert (found.structure, found.sparsity, found.allocation) == (structure, sparsity, "layer")

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_sparsity_beside_it_holds_and_is_refused_where_it_contradicts(self, order: int) -> None:
        given = ["pruning.structure=2:4", "pruning.sparsity=0.9", "pruning.allocation=layer"][::order]
        told = told_by(lambda: load(QUICKSTART, given))
        assert told == "pruning: sparsity=0.9 does not go with structure=2:4; allowed: 0.5"
        assert load(QUICKSTART, [*given, "pruning.sparsity=0.5"]).pruning.sparsity == 0.5

    def test_what_a_pattern_does_not_go_with_is_still_told(self) -> None:
        told = told_by(lambda: load(QUICKSTART, ["pruning.structure=2:4", "pruning.allocation=global"]))
        assert told == "pruning: allocation=global does not go with structure=2:4; allowed: layer"

    def test_a_contradiction_within_a_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "run.yaml"
        path.write_text("pruning: {structure: '2:4', sparsity: 0.9}\n")
        told = told_by(lambda: load(path))
        assert told == "pruning: sparsity=0.9 does not go with structure=2:4; allowed: 0.5"
        assert load(path, ["pruning.structure=1:4"]).pruning.sparsity == 0.75

    @pytest.mark.parametrize("structure", ["unstructured", "filters", "heads", "blocks:4x1"])
    def test_other_structures_keep_the_sparsity(self, structure: str) -> None:
        assert load(QUICKSTART, [f"pruning.structure={structure}"]).pruning.sparsity == 0.99

    def test_multiply_adds_and_a_latency_replace_the_sparsity_and_each_other(self) -> None:
        assert load(QUICKSTART, ["pruning.macs=0.25"]).pruning.sparsity == 0.75
        pruning = load(QUICKSTART, ["pruning.latency=0.5"]).pruning
        assert (pruning.latency, pruning.macs, pruning.structure) == (0.5, None, "filters")
        told = told_by(lambda: load(QUICKSTART, ["pruning.macs=0.25", "pruning.sparsity=0.9"]))
        assert told == "pruning: sparsity=0.9 does not go with macs=0.25; give one of them"

    def test_a_section_that_is_none_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "run.yaml"
        path.write_text("pruning: 5\n")
        assert told_by(lambda: load(path, ["pruning.structure=2:4"])) == (
            "pruning.structure=2:4: pruning is a value and has no keys of its own"
        )


class TestHome:
    @pytest.fixture(autouse=True)
    def _home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))

    @pytest.mark.parametrize("key", ["run.storage", "run.events", "data.folder", "model.weights", "tune.warm_start"])
    def test_a_tilde_is_home_in_every_key_that_is_a_path(self, tmp_path: Path, key: str) -> None:
        def given(value: str) -> object:
            return at(validate(nested(key, value)), key)

        assert given("~/a/b") == f"{tmp_path}/a/b"
        assert given("~root/a") == str(Path("~root/a").expanduser())
        assert given("a/~/b~") == "a/~/b~"
        assert given("s3://bucket/~/b") == "s3://bucket/~/b"
        assert inside(yaml.safe_load(dump(validate(nested(key, "~/a")))), key) == f"{tmp_path}/a"
        assert message(nested(key, "~nobody-of-this-name/a")) == (
            f"{key}=~nobody-of-this-name/a: there is no user nobody-of-this-name here; "
            "./~nobody-of-this-name is a folder of that name"
        )
        assert message(nested(key, "")).startswith(f"{key}=: string should have at least 1 character")

    @pytest.mark.parametrize("kind", ["parquet", "imagefolder", "imagenet16", "imagenet16-120"])
    def test_a_tilde_is_home_in_the_folder_of_a_source(self, tmp_path: Path, kind: str) -> None:
        assert validate(nested("data.source", f"{kind}:~/a~b")).data.source == f"{kind}:{tmp_path}/a~b"

    def test_a_configuration_may_lie_at_home(self, tmp_path: Path) -> None:
        (tmp_path / "run.yaml").write_text("run: {seed: 7}\n")
        assert load("~/run.yaml").run.seed == load(Path("~/run.yaml")).run.seed == 7
        told = told_by(lambda: load("~nobody-of-this-name/run.yaml"))
        assert told is not None
        assert told.startswith("configuration=~nobody-of-this-name/run.yaml: there is no user nobody-of-this-name here")


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("configuration") / "empty.yaml"
    path.write_text("")
    return path


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=20)
    | st.dates()
    | st.binary(max_size=5)
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The default configuration with up to three keys set to anything, added or removed."""
    values = copy.deepcopy(DEFAULTS)
    for _ in range(draw(st.integers(1, 3))):
        inner = values
        while True:
            key = draw(st.sampled_from(sorted(inner) or ["key"]))
            if not isinstance(inner.get(key), dict) or draw(st.booleans()):
                break
            inner = inner[key]
        match draw(st.sampled_from(["set", "add", "remove"])):
            case "set":
                inner[key] = draw(anything)
            case "add":
                inner[draw(st.text(max_size=8))] = draw(anything)
            case _:
                inner.pop(key, None)
    return values


@settings(deadline=None, derandomize=True, max_examples=150)
@given(mutated())
def test_any_mutation_is_valid_or_refused_in_one_line(values: dict[str, Any]) -> None:
    if told_by(lambda: validate(values)) is None:
        configuration = validate(values)
        assert validate(parse(dump(configuration), "dump")) == configuration


odd_values = (
    st.sampled_from([None, True, "", " ", [], {}, [[]], {"a": {}}, -1, 0, 1, 0.5, 10**9, 10**18, -(10**18), 10**400])
    | st.sampled_from([1e308, 5e-324, -0.0, float("nan"), float("inf"), "é", "\ud800", "\0", "x" * 10**4, [0] * 10**3])
    | st.lists(st.floats() | st.integers() | st.text(max_size=4), max_size=3)
    | st.text(max_size=8)
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.sampled_from(leaves(DEFAULTS)), odd_values)
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(path: str, value: object) -> None:
    told = told_by(lambda: validate(nested(path, value)))
    if told is None:
        return
    key, equals, rest = told.partition("=")
    assert equals
    if key.startswith(path):  # a fault of one value: KEY=VALUE: what is allowed
        place = key.removeprefix(path).strip(".")
        wrong = value[int(place)] if place.isdigit() and isinstance(value, list) and value[int(place) :] else value
        text, colon, allowed = rest.rpartition(": ")
        assert colon
        assert len(allowed) > 10
        if isinstance(wrong, str) and wrong.isprintable():
            assert " ".join(shown(wrong).split()) in text
    else:  # a rule between keys
        assert path.rpartition(".")[2] in told
        assert re.search("allowed|must|needs|exceeds|beyond", told)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data())
def test_any_damage_to_a_file_is_valid_or_refused_in_one_line(data: st.DataObject) -> None:
    text = dump(Configuration())
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    inserted = data.draw(st.text("{}[]:,&*#?|-<>=!%@\\\"'\n\t .0123456789eabrun", max_size=12))
    told_by(lambda: validate(parse(text[:start] + inserted + text[end:], "file")))


PARTS = ["", " ", "0", "é", "\\", "'", "run", "name", "search", "lahc", "history", "tune", "space", "sgd"]
ODDITIES = (
    "", "~", "null", "yes", "1_0", "0x1F", "0o7", "1e5", "-.inf", ".nan", "<<", "=", "*a", "&a 1", "!!int 1", "!!str 1",
    "{<<: {seed: 1}}", "{seed: 1, ? name : a}", "[1, [2, {a: }]]", "'", '"\\u0000"', '"\\ud800"', "|\n a", "a: b",
    "- 1", "2020-01-01", "1:30", "\t1", "\u2028", "1e999", "9" * 400, "{" * 30, "%YAML 9.9\n---\n1", "---", "1 # none",
)  # fmt: skip
keys = (
    st.lists(st.sampled_from(PARTS), max_size=6).map(".".join) | st.sampled_from(leaves(DEFAULTS)) | st.text(max_size=9)
)
signs = st.sampled_from(["=", "=", "=", "", "==", " = "])


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.lists(st.tuples(keys, signs, st.text(max_size=12) | st.sampled_from(ODDITIES)), min_size=1, max_size=3))
def test_any_override_is_applied_or_refused_in_one_line(empty_file: Path, given: list[tuple[str, str, str]]) -> None:
    told_by(lambda: load(empty_file, ["".join(pieces) for pieces in given]))


texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(lambda text: ":" not in text)

valid_values = st.fixed_dictionaries(
    {},
    optional={
        "run": st.fixed_dictionaries(
            {},
            optional={
                "name": st.from_regex(r"\A[A-Za-z0-9_-]+\Z"),
                "storage": texts,
                "seed": st.integers(0, 2**63 - 1),
            },
        ),
        "data": st.fixed_dictionaries(
            {}, optional={"size": st.none() | st.integers(4, 1024), "flip": st.booleans(), "source": texts}
        ),
        "pruning": st.fixed_dictionaries(
            {},
            optional={
                "sparsity": st.floats(0, 1, exclude_max=True),
                "allocation": st.sampled_from(["layer", "global"]),
                "hyperparameters": st.fixed_dictionaries(
                    {},
                    optional={
                        "learning_rate": st.floats(0, 10, exclude_min=True),
                        "weight_decay": st.floats(0, 1),
                        "schedule": st.sampled_from(["cosine warm restarts", "constant"]),
                    },
                ),
            },
        ),
        "search": st.fixed_dictionaries(
            {}, optional={"operators": st.lists(st.sampled_from(OPERATORS), min_size=2, max_size=5)}
        ),
        "tune": st.fixed_dictionaries(
            {}, optional={"resources": st.fixed_dictionaries({"gpu": st.floats(1e-4, 1) | st.sampled_from([0.0, 8.0])})}
        ),
    },
)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(valid_values)
def test_a_dump_is_the_whole_configuration(values: dict[str, Any]) -> None:
    configuration = validate(values)
    written = parse(dump(configuration), "dump")
    assert validate(written) == configuration
    assert leaves(written) == leaves(DEFAULTS)
    for path in leaves(values):
        assert inside(written, path) == inside(values, path)


def test_what_is_given_beside_a_budget_is_on_the_command_line_or_in_the_file_that_has_one() -> None:
    file = {"dense": {"epochs": 5}, "run": {"budget": None}}
    words = ["run.budget=20m", "tune.resources={cpu: 2}", "pruning.recipe=gsm"]
    assert config.beside_budget(file, words) == {"run.budget", "tune.resources.cpu", "pruning.recipe"}
    own = {"dense": {"epochs": 5}, "run": {"budget": "1h"}}
    assert config.beside_budget(own, ["search.steps=9"]) == {"dense.epochs", "run.budget", "search.steps"}
    assert config.beside_budget({}, []) == frozenset()
