from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pydantic
import pytest

from safs_ray.config import (
    Configuration,
    ConfigurationError,
    OptimizerName,
    PruningSection,
    refusal,
    validate,
)
from tests.config.told import at, message, nested, shown, told_by

RANGES = [(kind, key) for kind in ("Ranges", "SgdRanges") for key in ("learning_rate", "weight_decay")]
RANGES.append(("SgdRanges", "momentum"))

STRUCTURES = (
    "unstructured, filters, heads, N:M with 0 < N < M <= 64, such as 2:4, or blocks:BxC with B and C from 1 to 999, "
    "such as blocks:4x1"
)


def numbers(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a JSON schema that are numbers."""
    if schema.get("type") in ("integer", "number"):
        yield schema
    for inner in [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]:
        yield from numbers(inner)
    if "items" in schema:
        yield from numbers(schema["items"])


class TestKeys:
    def test_a_misspelled_key_is_told_with_the_nearest_one(self) -> None:
        assert message({"pruning": {"sparsty": 0.5}}) == (
            "pruning.sparsty=0.5: unknown key; did you mean sparsity? "
            "allowed: recipe, recipes, sparsity, macs, latency, score, allocation, structure, schedule, epochs, until, "
            "interval, fraction, rewind, particles, strength, images, hyperparameters"
        )

    def test_a_misspelled_section_is_told_with_the_nearest_one(self) -> None:
        assert message({"prunning": {"sparsity": 0.5}}) == (
            'prunning={"sparsity": 0.5}: unknown key; did you mean pruning? '
            "allowed: run, data, model, task, dense, training, pruning, search, finetune, tune, final"
        )

    def test_a_key_near_to_none_is_told_without_a_guess(self) -> None:
        assert message({"tune": {"space": {"zzz": 1}}}) == (
            "tune.space.zzz=1: unknown key; allowed: optimizers, sgd, adam, adamw, tadam, fromage"
        )

    def test_momentum_and_schedules_are_keys_of_sgd_alone(self) -> None:
        assert message(nested("tune.space.adam.momentum", [0.5, 0.9])) == (
            "tune.space.adam.momentum=[0.5, 0.9]: unknown key; allowed: learning_rate, weight_decay"
        )

    @pytest.mark.parametrize("key", [1, None, True, 1.5, ("a", 1)])
    def test_a_key_that_is_no_text_is_unknown(self, key: object) -> None:
        assert "unknown key" in message({key: 1})  # type: ignore[dict-item]

    def test_a_key_that_is_a_number_beyond_all_bounds_is_refused(self) -> None:
        assert message({"run": {10**5000: 1}}) == "run=2**16609...: must be below 1e+30"  # type: ignore[dict-item]

    def test_a_section_that_is_a_value_is_refused(self) -> None:
        assert message({"search": {"lahc": 5}}) == (
            "search.lahc=5: must be a section, with keys and values; allowed: history, walks"
        )

    def test_an_empty_section_is_told(self) -> None:
        assert message({"dense": None}) == (
            "dense=null: must be a section, with keys and values; allowed: epochs, hyperparameters"
        )


class TestValues:
    @pytest.mark.parametrize(
        ("path", "value", "told"),
        [
            ("run.seed", True, "run.seed=true: input should be a valid integer"),
            ("run.seed", "3", "run.seed=3: input should be a valid integer"),
            ("run.seed", 3.0, "run.seed=3.0: input should be a valid integer"),
            ("run.seed", None, "run.seed=null: input should be a valid integer"),
            ("run.name", 3, "run.name=3: input should be a valid string"),
            ("data.flip", "yes", "data.flip=yes: input should be a valid boolean"),
            ("data.flip", 1, "data.flip=1: input should be a valid boolean"),
            ("pruning.sparsity", True, "pruning.sparsity=true: input should be a valid number"),
            ("pruning.sparsity", "0.9", "pruning.sparsity=0.9: input should be a valid number"),
            ("search.operators", ["relu", 3], "search.operators.1=3: input should be a valid string"),
            ("dense.epochs", [1], "dense.epochs=[1]: input should be a valid integer"),
        ],
    )
    def test_a_wrong_type_is_told(self, path: str, value: object, told: str) -> None:
        assert message(nested(path, value)) == told

    @pytest.mark.parametrize(
        ("path", "value", "limit"),
        [
            ("run.seed", -1, "greater than or equal to 0"),
            ("data.validation", 0.0, "greater than 0"),
            ("data.validation", 0.51, "less than or equal to 0.5"),
            ("data.size", 3, "greater than or equal to 4"),
            ("data.size", 1025, "less than or equal to 1024"),
            ("data.limit", 0, "greater than or equal to 1"),
            ("dense.epochs", -1, "greater than or equal to 0"),
            ("dense.hyperparameters.learning_rate", 0, "greater than 0"),
            ("dense.hyperparameters.learning_rate", 10.5, "less than or equal to 10"),
            ("pruning.sparsity", 1, "less than 1"),
            ("pruning.sparsity", -0.1, "greater than or equal to 0"),
            ("pruning.epochs", -1, "greater than or equal to 0"),
            ("pruning.hyperparameters.momentum", 1.0, "less than 1"),
            ("search.operators", ["relu"], "at least 2 items"),
            ("search.groups", 1, "greater than or equal to 2"),
            ("search.granularity", "node", "'layer', 'network' or 'group'"),
            (
                "search.strategy",
                "hill climbing",
                "allowed: lahc, random, annealing, genetic, tpe or package.module:function",
            ),
            ("search.genetic.population", 1, "greater than or equal to 2"),
            ("search.genetic.mutation", 1.1, "less than or equal to 1"),
            ("search.annealing.final_temperature", 0, "greater than or equal to 0.000001"),
            ("search.tpe.gamma", 0, "greater than 0"),
            ("tune.reduction_factor", 1, "greater than or equal to 2"),
            ("tune.resources.gpu", -0.5, "greater than or equal to 0"),
            ("tune.brackets", 0, "greater than or equal to 1"),
            ("tune.brackets", 17, "less than or equal to 16"),
            ("tune.max_t", 0, "greater than or equal to 1"),
            ("tune.searcher", "tpe", "'hyperopt' or 'random'"),
            ("tune.scheduler", "fifo", "'asha' or 'none'"),
            ("tune.space.optimizers", [], "at least 1 item"),
            ("tune.space.optimizers", ["adam", "adam"], "must name each choice once"),
            ("tune.space.sgd.schedules", ["step", "step"], "must name each choice once"),
            ("pruning.allocation", "leyer", "'layer', 'global' or 'erk'"),
            (
                "pruning.score",
                "hessian",
                "allowed: magnitude, random, snip, grasp, synflow, taylor, fisher, lamp, folded or "
                "package.module:function",
            ),
            (
                "pruning.schedule",
                "slow",
                "allowed: one shot, gradual, iterative, gsm, swamp, rigl, envelope, turbo-vbi or "
                "package.module:function",
            ),
            ("pruning.structure", "rows", STRUCTURES),
            ("pruning.structure", "4:4", STRUCTURES),
            ("pruning.structure", "0:4", STRUCTURES),
            ("pruning.structure", "2:65", STRUCTURES),
            ("pruning.structure", "blocks:0x4", STRUCTURES),
            ("pruning.structure", "blocks:4", STRUCTURES),
            ("pruning.structure", "blocks:1000x1", STRUCTURES),
            ("pruning.until", 0.0, "greater than 0"),
            ("pruning.until", 1.5, "less than or equal to 1"),
            ("pruning.interval", 0, "greater than or equal to 1"),
            ("pruning.fraction", 1.0, "less than 1"),
            ("pruning.rewind", -1, "greater than or equal to 0"),
            ("pruning.particles", 1, "greater than or equal to 2"),
            ("pruning.images", 0, "greater than or equal to 1"),
            ("run.device", "gpu", "'auto', 'cpu' or 'cuda'"),
            ("run.name", "", "string should match pattern"),
            ("run.name", "a/b", "string should match pattern"),
            ("run.name", "a" * 101, "at most 100 characters"),
            ("run.storage", "", "at least 1 character"),
            ("run.storage", "s3://", "must be a folder or SCHEME://BUCKET/FOLDER"),
            ("run.storage", "s3:/bucket", "must be a folder or SCHEME://BUCKET/FOLDER"),
            ("model.weights", "", "at least 1 character"),
            ("final.finalists", 0, "greater than or equal to 1"),
            ("final.seeds", 101, "less than or equal to 100"),
            ("final.ablations", ["stage 1", "stage 1"], "must name each choice once"),
            ("tune.resources.gpu", 1.5, "0, a fraction of one from 0.0001 on, or a whole number"),
            ("tune.resources.gpu", 1e-5, "0, a fraction of one from 0.0001 on, or a whole number"),
            ("search.steps", 10**18, "less than or equal to 1000000"),
            ("search.chains", 10**6, "less than or equal to 10000"),
            ("search.lahc.history", 10**9, "less than or equal to 100000"),
            ("search.tpe.gamma", 1e308, "less than or equal to 100"),
            ("pruning.epochs", 10**9, "less than or equal to 1000000"),
            ("search.groups", 10**9, "less than or equal to 10000"),
            ("tune.reduction_factor", 10**9, "less than or equal to 1000"),
        ],
    )
    def test_a_value_out_of_range_is_told_with_the_limit(self, path: str, value: object, limit: str) -> None:
        text = message(nested(path, value))
        assert text.startswith(f"{path}={shown(value)}: ")
        assert limit in text

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("run.seed", 0),
            ("data.size", 4),
            ("data.size", 1024),
            ("data.size", None),
            ("pruning.sparsity", 0),
            ("pruning.sparsity", 0.9999),
            ("pruning.epochs", 0),
            ("dense.hyperparameters.learning_rate", 10),
            ("dense.hyperparameters.momentum", 0),
            ("tune.resources.gpu", 0.25),
            ("tune.resources.gpu", 2.0),
            ("run.storage", "/"),
            ("run.storage", "file:///runs"),
        ],
    )
    def test_a_value_at_the_limit_is_taken(self, path: str, value: object) -> None:
        assert at(validate(nested(path, value)), path) == value

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("path", ["pruning.sparsity", "dense.hyperparameters.learning_rate", "tune.resources.gpu"])
    def test_what_is_not_finite_is_refused(self, path: str, value: float) -> None:
        text = message(nested(path, value))
        assert text.startswith(f"{path}=")
        assert text.endswith(": input should be a finite number")

    @pytest.mark.parametrize("value", [[1e-2, 1e-3], [0.0, 1.0], [-1.0, 1.0], [1.0, 11.0]])
    @pytest.mark.parametrize("optimizer", get_args(OptimizerName))
    def test_a_range_is_positive_and_ascends(self, optimizer: str, value: list[float]) -> None:
        key = f"tune.space.{optimizer}.learning_rate"
        text = message(nested(key, value))
        assert text == f"{key}={value}: must be [low, high] with 1e-12 <= low <= high <= 10"

    def test_a_range_has_two_ends(self) -> None:
        key = "tune.space.sgd.momentum"
        assert message(nested(key, [0.1])).startswith(f"{key}.1=")
        assert message(nested(key, [0.1, 0.2, 0.3])).startswith(f"{key}=[0.1, 0.2, 0.3]")

    @pytest.mark.parametrize("value", [0.0, 0.5])
    def test_a_range_may_be_one_point(self, value: float) -> None:
        key = "tune.space.sgd.momentum"
        assert at(validate(nested(key, [value, value])), key) == (value, value)

    def test_a_long_value_is_cut(self) -> None:
        assert message(nested("run.name", "a b" * 100)).startswith(
            "run.name=" + "a b" * 10 + "..." + ("a b" * 16)[-47:] + ": string"
        )

    @pytest.mark.parametrize("path", ["run.name", "run.device", "data.size", "pruning.sparsity", "search.operators"])
    @pytest.mark.parametrize("value", ["two\nlines", "two\rlines"])
    def test_a_value_of_several_lines_is_told_in_one(self, path: str, value: str) -> None:
        assert message(nested(path, value)).startswith(f"{path}=")

    def test_a_key_of_several_lines_is_told_in_one(self) -> None:
        message({"two\nlines": 1})
        message({"run": {"two\nlines": 1}})

    @pytest.mark.parametrize(
        ("number", "told"), [(10**400, "2**1328..."), (-(10**5000), "-2**16609...")], ids=["400", "5000"]
    )
    def test_of_numbers_beyond_all_bounds_the_order_is_told(self, number: int, told: str) -> None:
        assert message({"final": {"folds": number}}) == f"final.folds={told}: must be below 1e+30"

    def test_every_number_has_an_upper_limit(self) -> None:
        """Or else some number lets a run ask for memory without end."""
        schema = Configuration.model_json_schema()
        unlimited = [
            f"{name}.{key}"
            for name, section in {"": schema, **schema["$defs"]}.items()
            for key, property_ in section["properties"].items()
            for numeric in numbers(property_)
            if not {"maximum", "exclusiveMaximum"} & numeric.keys()
        ]
        assert set(unlimited) == {f"{kind}.{key}" for kind, key in RANGES}, "whose ends a validator limits"

    @pytest.mark.parametrize("text", ["a\0b", "a\x1b[2Jb", "a\ud800b", "a\nb", "\x7f"])
    @pytest.mark.parametrize(
        "path", ["run.storage", "data.source", "model.weights", "search.operators", "model.exclude"]
    )
    def test_control_characters_are_refused_and_not_printed(self, path: str, text: str) -> None:
        value = [text, "relu"] if path in ("search.operators", "model.exclude") else text
        assert message(nested(path, value)).endswith(": must be a text without control characters")

    def test_text_of_any_language_is_taken(self) -> None:
        for text in ("läufe", "запуски", "試行", "🚀 runs"):
            assert validate(nested("run.storage", text)).run.storage == text

    @pytest.mark.parametrize(
        ("path", "value", "told"),
        [
            ("run.storage", "s3://AKIA0:h/u+sh=@bucket/runs", "s3://***@bucket/runs"),
            ("run.storage", "abfs://box@account/runs?client_secret=hush&x=1", "abfs://box@account/runs?***&x=1"),
            ("model.weights", "s3://AKIA0:hush@bucket/w.pt", "s3://***@bucket/w.pt"),
            ("run.address", "ray://me:hush@host:1", "ray://***@host:1"),
        ],
    )
    def test_a_secret_is_refused_and_not_told(self, path: str, value: str, told: str) -> None:
        text = message(nested(path, value))
        assert text.startswith(f"{path}={told}: must hold no password or key")
        assert "hush" not in text

    @pytest.mark.parametrize("text", ["://", "a://:", ":", "?key", "&token", "://a:b", "?key=&", "@", "://@"])
    def test_a_text_that_repeats_what_secrets_look_like_takes_no_time(self, text: str) -> None:
        start = time.process_time()
        told_by(lambda: validate({"run": {"storage": f"s3://{text * (90_000 // len(text))}"}}))
        assert time.process_time() - start < 2

    def test_a_secret_is_not_told_wherever_it_stands_and_however_long_it_is(self) -> None:
        assert "hush" not in message({"run": {"storage": f"s3://me:{'hush' * 100}@bucket/{'runs' * 100}"}})
        assert "hush" not in message({"run": {"storge": "s3://me:hush@bucket"}})
        assert "hush" not in message({"run": {"s3://me:hush@bucket": 1}})

    @pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), complex(1, 2), {"a": {3}}])
    def test_what_yaml_cannot_say_is_refused_with_its_key(self, value: object) -> None:
        assert message({"run": {"seed": value}}).startswith("run.seed")
        assert "must be a text, a number" in message({"run": {"seed": value}})

    def test_a_path_is_a_text(self) -> None:
        assert validate({"data": {"folder": Path("images")}}).data.folder == "images"

    def test_values_without_end_are_refused(self) -> None:
        loop: dict[str, Any] = {}
        loop["run"] = loop
        assert message(loop).endswith(": allowed: at most 20 keys within each other")
        assert message({"run": {"seed": [[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]}}).startswith("run.seed.0.0.0")

    def test_a_long_key_is_cut(self) -> None:
        assert message({"run": {"k" * 10**5: 1}}).startswith("run." + "k" * 26 + "..." + "k" * 47 + "=1: unknown key")

    def test_a_long_message_is_cut(self) -> None:
        text = str(ConfigurationError("a" + "x" * 10**6 + "z"))
        assert len(text) == 1000
        assert (text[0], text[-1]) == ("a", "z")

    def test_a_refusal_names_key_value_and_what_is_allowed_in_one_line(self) -> None:
        assert str(refusal("a.b", [1, "x"], "allowed: 2")) == 'a.b=[1, "x"]: allowed: 2'
        assert "\n" not in str(refusal("a.b", "two\nlines", "allowed: 2"))

    def test_a_configuration_cannot_be_changed(self) -> None:
        with pytest.raises(pydantic.ValidationError):
            Configuration().run.seed = 3  # type: ignore[misc]


def test_macs_stand_in_place_of_sparsity_and_structure() -> None:
    for others in (
        {},
        {"sparsity": 0.75},
        {"structure": "unstructured", "recipe": "gradual"},
        {"structure": "filters"},
    ):
        section = PruningSection.model_validate({"macs": 0.25, **others})
        assert (section.sparsity, section.structure, section.macs) == (0.75, "filters", 0.25)
        assert PruningSection.model_validate(section.model_dump(exclude={"recipe"})).macs == 0.25


class TestRulesBetweenKeys:
    def test_three_rounded_sixths_are_a_half(self) -> None:
        assert validate({"data": {"validation": 0.1666667}, "final": {"folds": 3}}).final.folds == 3

    def test_folds_hold_back_at_most_half_of_the_images(self) -> None:
        assert message({"data": {"validation": 0.2}, "final": {"folds": 3}}) == (
            "final.folds=3 folds of data.validation=0.2 hold back 60% of the training images from the search; "
            "allowed: at most half"
        )
        assert validate({"data": {"validation": 0.25}, "final": {"folds": 2}}).final.folds == 2
        assert validate({"data": {"validation": 0.1}, "final": {"folds": 5}}).final.folds == 5

    def test_finetuning_is_whole_steps(self) -> None:
        assert message({"finetune": {"epochs": 7, "epochs_per_step": 5}}) == (
            "finetune: epochs=7 must be a multiple of epochs_per_step=5"
        )

    def test_a_pruned_network_is_in_a_file(self) -> None:
        assert message({"model": {"pruned": True}}) == (
            "model: pruned=true needs model.weights, the file of the pruned network"
        )
        assert validate({"model": {"pruned": True, "weights": "w.pt"}}).model.weights == "w.pt"

    def test_a_network_from_a_file_is_not_rewound_and_one_that_is_pruned_not_searched_before(self) -> None:
        values = {"model": {"weights": "w.pt"}, "pruning": {"schedule": "iterative", "rewind": 2}}
        assert message(values) == (
            "pruning.rewind=2 does not go with model.weights, whose training is not known; allowed: null"
        )
        values = {"model": {"weights": "w.pt", "pruned": True}, "search": {"when": "before"}}
        assert message(values) == "search.when=before does not go with model.pruned=true; allowed: after"

    def test_distillation_needs_a_dense_network_that_was_trained(self) -> None:
        taught = {"training": {"distillation": {"share": 0.5}}}
        assert message({**taught, "dense": {"epochs": 0}}) == (
            "training.distillation.share=0.5 needs a dense network to learn from, and dense.epochs=0 leaves it "
            "untrained; allowed: 0"
        )
        assert message({**taught, "model": {"weights": "w.pt", "pruned": True}}) == (
            "training.distillation.share=0.5 needs a dense network to learn from, and model.pruned=true begins with a "
            "sparse one; allowed: 0"
        )
        for model in ({"weights": "w.pt"}, {"name": "mine:trained"}):
            assert validate({**taught, "dense": {"epochs": 0}, "model": model}).training.distillation.share == 0.5

    def test_mean_and_deviation_go_together(self) -> None:
        told = "must have as many values, one for each channel"
        assert message({"data": {"mean": [0.5]}}) == f"data: mean=[0.5] and deviation=null {told}"
        both = {"mean": [0.5], "deviation": [0.5, 0.5]}
        assert message({"data": both}) == f"data: mean=[0.5] and deviation=[0.5, 0.5] {told}"
        assert validate({"data": {"mean": [0], "deviation": [1]}}).data.deviation == (1.0,)

    def test_annealing_does_not_heat(self) -> None:
        assert message({"search": {"annealing": {"initial_temperature": 0.1}}}) == (
            "search.annealing: final_temperature=10 must not exceed initial_temperature=0.1"
        )
        equal = {"initial_temperature": 0.1, "final_temperature": 0.1}
        assert validate({"search": {"annealing": equal}}).search.annealing.final_temperature == 0.1

    def test_a_predictor_is_for_late_acceptance(self) -> None:
        assert message({"search": {"predictor": "linear", "strategy": "random"}}) == (
            "search: predictor=linear does not go with strategy=random; allowed: none"
        )
        assert validate({"search": {"predictor": "linear"}}).search.predictor == "linear"

    def test_the_rungs_of_an_older_file_are_read_where_there_are_none(self) -> None:
        assert validate({"search": {"rungs": [], "steps": 3}}) == validate({"search": {"steps": 3}})
        assert message({"search": {"rungs": [5]}}).startswith("search.rungs=[5]: unknown key; ")
        assert message({"search": {"rungs": None}}).startswith("search.rungs=null: unknown key; ")

    def test_a_generation_has_children(self) -> None:
        assert message({"search": {"genetic": {"elites": 5}}}) == "search.genetic: elites=5 must be below population=5"
        assert validate({"search": {"genetic": {"elites": 4}}}).search.genetic.elites == 4

    def test_the_grace_period_fits_into_a_trial(self) -> None:
        values = {"search": {"steps": 4}, "finetune": {"epochs": 6, "epochs_per_step": 2}}
        assert message({**values, "tune": {"grace_period": 8}}) == (
            "tune.grace_period=8 exceeds the 7 steps of a trial"
        )
        assert validate({**values, "tune": {"grace_period": 7}}).iterations == 7
        assert validate({**values, "tune": {"grace_period": 8, "scheduler": "none"}}).iterations == 7

    @pytest.mark.parametrize("max_t", [3, 4, 5, 7, None])
    def test_a_trial_may_end_early(self, max_t: int | None) -> None:
        tune = {"grace_period": 3, "max_t": max_t}
        values = {"search": {"steps": 4}, "finetune": {"epochs": 6, "epochs_per_step": 2}, "tune": tune}
        assert validate(values).iterations == (max_t or 7)

    @pytest.mark.parametrize(
        ("tune", "told"),
        [
            ({"max_t": 8}, "tune.max_t=8 exceeds the 7 steps of a trial"),
            ({"max_t": 8, "scheduler": "none"}, "tune.max_t=8 exceeds the 7 steps of a trial"),
            ({"grace_period": 3, "max_t": 2}, "tune.grace_period=3 exceeds tune.max_t=2"),
            (
                {"grace_period": 2, "brackets": 3},
                "tune.brackets=3 gives the last one a grace period of 8 steps (tune.grace_period times "
                "tune.reduction_factor for each bracket before it), beyond the 7 of a trial",
            ),
        ],
    )
    def test_rungs_lie_within_a_trial(self, tune: dict[str, Any], told: str) -> None:
        values = {"search": {"steps": 4}, "finetune": {"epochs": 6, "epochs_per_step": 2}}
        assert message({**values, "tune": tune}) == told

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            (
                {"structure": "2:4", "sparsity": 0.99},
                "sparsity=0.99 does not go with structure=2:4; allowed: 0.5",
            ),
            (
                {"structure": "1:3", "sparsity": 0.5},
                "sparsity=0.5 does not go with structure=1:3; allowed: 0.666667",
            ),
            (
                {"structure": "2:4", "allocation": "global"},
                "allocation=global does not go with structure=2:4; allowed: layer",
            ),
            (
                {"structure": "2:4", "schedule": "gradual"},
                "schedule=gradual does not go with structure=2:4; allowed: one shot",
            ),
            (
                {"structure": "filters", "allocation": "erk"},
                "allocation=erk does not go with structure=filters; allowed: layer, global",
            ),
            (
                {"structure": "filters", "score": "grasp"},
                "score=grasp does not go with structure=filters; "
                "allowed: magnitude, random, snip, synflow, taylor, fisher, lamp, folded",
            ),
            (
                {"structure": "heads", "allocation": "erk"},
                "allocation=erk does not go with structure=heads; allowed: layer, global",
            ),
            (
                {"macs": 0.25, "structure": "heads"},
                "structure=heads does not go with macs=0.25; allowed: filters",
            ),
            (
                {"structure": "blocks:4x1", "score": "grasp"},
                "score=grasp does not go with structure=blocks:4x1; "
                "allowed: magnitude, random, snip, synflow, taylor, fisher, lamp, folded",
            ),
            (
                {"structure": "blocks:4x1", "schedule": "rigl", "allocation": "erk"},
                "schedule=rigl does not go with structure=blocks:4x1; "
                "allowed: one shot, gradual, iterative, swamp, gsm",
            ),
            ({"macs": 0.25, "sparsity": 0.99}, "sparsity=0.99 does not go with macs=0.25; give one of them"),
            ({"latency": 0.5, "sparsity": 0.9}, "sparsity=0.9 does not go with latency=0.5; give one of them"),
            (
                {"latency": 0.5, "structure": "2:4"},
                "structure=2:4 does not go with latency=0.5; allowed: filters",
            ),
            (
                {"macs": 0.25, "structure": "2:4"},
                "structure=2:4 does not go with macs=0.25; allowed: filters",
            ),
            (
                {"structure": "filters", "schedule": "rigl"},
                "schedule=rigl does not go with structure=filters; "
                "allowed: one shot, gradual, iterative, swamp, envelope, turbo-vbi",
            ),
            (
                {"schedule": "gradual", "score": "snip"},
                "score=snip does not go with schedule=gradual; allowed: magnitude",
            ),
            (
                {"schedule": "gsm"},
                "schedule=gsm needs hyperparameters.optimizer=sgd and a weight_decay above 0",
            ),
            (
                {"schedule": "gsm", "hyperparameters": {"optimizer": "sgd"}},
                "schedule=gsm needs hyperparameters.optimizer=sgd and a weight_decay above 0",
            ),
            ({"schedule": "rigl", "epochs": 0}, "epochs=0 leaves schedule=rigl no time; allowed: 1 or more"),
            ({"rewind": 0}, "rewind=0 does not go with schedule=one shot; allowed: null"),
        ],
    )
    def test_pieces_of_a_pruner_that_do_not_fit_are_told(self, values: dict[str, object], told: str) -> None:
        assert message({"pruning": values}) == f"pruning: {told}"

    @pytest.mark.parametrize(
        ("structure", "sparsity"), [("2:4", 0.5), ("1:4", 0.75), ("1:3", 2 / 3), ("7:8", 0.125), ("unstructured", 0.99)]
    )
    def test_sparsity_follows_from_n_of_m(self, structure: str, sparsity: float) -> None:
        section = validate({"pruning": {"structure": structure}}).pruning
        assert section.sparsity == pytest.approx(sparsity)
        assert validate({"pruning": section.model_dump(mode="json")}).pruning == section
        given = validate({"pruning": {"structure": structure, "sparsity": round(sparsity, 6)}}).pruning
        assert given.sparsity == round(sparsity, 6)

    def test_weights_are_rewound_to_an_epoch_of_dense_training(self) -> None:
        values = {"pruning": {"schedule": "iterative", "rewind": 6}}
        assert message({**values, "dense": {"epochs": 5}}) == (
            "pruning.rewind=6 lies beyond dense.epochs=5; allowed: 0 to 5"
        )
        assert validate({**values, "dense": {"epochs": 6}}).pruning.rewind == 6

    def test_a_search_during_pruning_needs_the_gradual_schedule(self) -> None:
        assert message({"search": {"when": "during"}}) == (
            "pruning.schedule=one shot does not go with search.when=during; allowed: gradual"
        )
        assert validate({"search": {"when": "during"}, "pruning": {"schedule": "gradual"}}).search.when == "during"

    @pytest.mark.parametrize("values", [{"optimizer": "adam", "momentum": 0.9}, {"optimizer": "sgd"}])
    def test_nesterov_is_a_form_of_momentum(self, values: dict[str, object]) -> None:
        assert message({"dense": {"hyperparameters": {**values, "nesterov": True}}}) == (
            "dense.hyperparameters: nesterov=true needs optimizer=sgd and a momentum above 0"
        )

    @pytest.mark.parametrize(
        ("storage", "location"),
        [
            ("runs", "runs/a.b"),
            ("runs/", "runs/a.b"),
            ("what?", "what?/a.b"),
            ("s3://bucket/prefix/", "s3://bucket/prefix/a.b"),
            ("s3://bucket/prefix/?region=eu-west-1&scheme=http", "s3://bucket/prefix/a.b?region=eu-west-1&scheme=http"),
        ],
    )
    def test_the_run_folder_lies_in_the_storage(self, storage: str, location: str) -> None:
        assert validate({"run": {"name": "a.b", "storage": storage}}).location == location

    @pytest.mark.parametrize("key", [("run", "storage"), ("model", "weights"), ("data", "source")])
    @pytest.mark.parametrize("secret", ["hush", "hu/sh", "hu+sh=", "hush" * 30])
    @pytest.mark.parametrize("end", ["bucket", "bucket/prefix", f"bucket/{'long/' * 20}?region=eu-west-1"])
    def test_a_password_is_refused_and_not_told(self, key: tuple[str, str], secret: str, end: str) -> None:
        section, name = key
        told = message({section: {name: f"s3://MYKEY:{secret}@{end}"}})
        assert told.startswith(f"{section}.{name}=s3://***@bucket")
        assert "must hold no password" in told
        assert "hu" not in told
        assert "MYKEY" not in told

    @pytest.mark.parametrize(
        "address", ["ray://head:10001", "ray://head:10001/a", "gs://anonymous@bucket", "s3://b/x@y"]
    )
    def test_not_every_colon_or_at_sign_is_a_password(self, address: str) -> None:
        assert validate({"run": {"storage": address}}).run.storage == address

    @pytest.mark.parametrize("name", [".", ".."])
    def test_the_run_folder_is_not_the_storage_or_above_it(self, name: str) -> None:
        assert message({"run": {"name": name}}).startswith(f"run.name={name}: ")

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("tune.space.sgd.learning_rate", [0.1, 500.0]),
            ("tune.space.tadam.weight_decay", [0.1, 2.0]),
            ("tune.space.sgd.momentum", [0.5, 1.0]),
        ],
    )
    def test_the_space_proposes_only_what_hyperparameters_allow(self, path: str, value: list[float]) -> None:
        assert message(nested(path, value)).startswith(f"{path}=")

    @pytest.mark.parametrize(
        ("budget", "seconds"), [("20m", 1200), ("2h", 7200), ("600s", 600), ("1h30m", 5400), ("1h0m5s", 3605)]
    )
    def test_a_budget_is_a_time(self, budget: str, seconds: int) -> None:
        assert validate({"run": {"budget": budget}}).run.budget_seconds == seconds

    @pytest.mark.parametrize(
        "budget", ["", "20", "20 m", "0m", "-5m", "1.5h", "30m1h", "soon", "1d", 600, 1.5, True, []]
    )
    def test_a_budget_that_is_no_time_is_refused(self, budget: object) -> None:
        told = message({"run": {"budget": budget}})
        assert told == f"run.budget={shown(budget)}: must be a time above 0, such as 20m, 2h, 600s or 1h30m, or null"

    def test_a_budget_does_not_go_with_what_another_run_has_trained(self) -> None:
        assert message({"run": {"budget": "20m"}, "tune": {"warm_start": "runs/first"}}) == (
            "run.budget=20m does not go with tune.warm_start, whose dense and pruned networks are there already; "
            "allowed: null"
        )
