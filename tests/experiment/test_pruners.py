from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from safs_ray import config, experiment, schedules
from safs_ray.config import RECIPES, Configuration, ConfigurationError
from safs_ray.data import Dataset
from safs_ray.experiment import Stage, plan
from safs_ray.experiment.pruners import choose_pruner, rounds, words
from safs_ray.models import Specification
from safs_ray.stages import Result
from tests.conftest import TINY
from tests.experiment.executors import Recorded

TRIED = ("one-shot-layer", "erk", "gradual", "gsm", "rigl")


def configured(*words: str) -> Configuration:
    return config.validate(config.overridden(TINY, words))


@pytest.fixture(scope="module")
def auto() -> Configuration:
    return configured("pruning.recipe=auto", f"pruning.recipes=[{', '.join(TRIED)}]", "pruning.epochs=8")


class Ranked(Recorded):
    """One in which every recipe has the validation accuracy that is said of it."""

    accuracies: dict[str, float]

    def run(self, stages: Sequence[Stage]) -> list[Result]:
        for stage in stages:
            _, recipe, _ = stage.name.split("/")
            self.keep(stage.name, replace(self.result("dense"), validation_accuracy=self.accuracies[recipe]))
        return super().run(stages)


def test_rounds_halve_the_recipes_and_double_the_epochs(auto: Configuration) -> None:
    assert rounds(auto) == [(2, 5), (4, 3), (8, 2)]
    assert plan(auto)["pruning"] == 2 * 5 + 4 * 3 + 8 * 2


def test_choose_pruner_lets_the_better_half_go_on(
    auto: Configuration,
    dataset: Dataset,
    dense: Result,
    told: pytest.LogCaptureFixture,
) -> None:
    executor = Ranked(auto, dataset, {"dense": dense})
    executor.accuracies = {"one-shot-layer": 0.1, "erk": 0.2, "gradual": 0.75, "gsm": 0.3, "rigl": 0.7}
    tried = choose_pruner(auto, executor)
    assert list(executor.stages) == [
        *(f"pruners/{name}/epochs-2" for name in TRIED),
        *(f"pruners/{name}/epochs-4" for name in ("gradual", "rigl", "gsm")),
        *(f"pruners/{name}/epochs-8" for name in ("gradual", "rigl")),
    ]
    assert {stage.start for stage in executor.stages.values()} == {"dense"}
    assert {stage.part for stage in executor.stages.values()} == {f"pruners/epochs-{epochs}" for epochs in (2, 4, 8)}
    assert executor.result("pruned").validation_accuracy == 0.75
    assert list(tried) == ["gradual", "rigl", "gsm", "erk", "one-shot-layer"]
    assert tried["gsm"] == {
        "epochs": [2, 4], "validation_accuracy": [0.3, 0.3], "core_seconds": 2 * dense.core_seconds
    }  # fmt: skip
    assert told.messages[-1] == "pruners: gradual is the best, with validation 75.0 %"
    assert words(tried).startswith("gradual 75.0 % (8 epochs), rigl 70.0 % (8 epochs), gsm 30.0 % (4 epochs), ")


def test_choose_pruner_prunes_as_each_recipe_alone_would(
    dataset: Dataset, specification: Specification, dense: Result
) -> None:
    words = ("pruning.recipe=auto", "pruning.recipes=[erk, gradual]", "pruning.epochs=4")
    executor = Recorded(configured(*words), dataset, {"dense": dense})
    results = experiment.run(configured(*words), specification, executor)
    assert executor.kept[0] == "pruned"
    for name, epochs in (("erk", 1), ("gradual", 1)):
        alone = Recorded(configured(f"pruning.recipe={name}", f"pruning.epochs={epochs}"), dataset, {"dense": dense})
        experiment.run(configured(f"pruning.recipe={name}", f"pruning.epochs={epochs}"), specification, alone)
        tried = executor.result(f"pruners/{name}/epochs-{epochs}")
        assert tried.network.fingerprint == alone.result("pruned").network.fingerprint
        assert tried.network.sparsity == pytest.approx(0.9, abs=1e-3)
    best = next(iter(results["pruners"]))
    last = results["pruners"][best]["epochs"][-1]
    assert (
        executor.result("pruned").network.fingerprint
        == executor.result(f"pruners/{best}/epochs-{last}").network.fingerprint
    )
    spent = sum(known["core_seconds"] for known in results["pruners"].values())
    assert results["rows"][1]["core_seconds"] > spent


def test_choose_pruner_goes_on_without_a_recipe_that_fails(dataset: Dataset, dense: Result) -> None:
    wild = configured(
        "pruning.recipe=auto", "pruning.recipes=[gradual, erk]", "pruning.epochs=4",
        "pruning.hyperparameters={optimizer: sgd, learning_rate: 10.0, momentum: 0.99, batch_size: 8}",
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"^pruning.recipe=auto: none of gradual, erk made the network sparse"):
        choose_pruner(wild, Recorded(wild, dataset, {"dense": dense}))
    one = configured("pruning.recipe=auto", "pruning.recipes=[gsm, gradual]", "pruning.epochs=4")
    executor = Ranked(one, dataset, {"dense": dense})
    executor.accuracies = {"gsm": 0.0, "gradual": 0.2}
    assert list(choose_pruner(one, executor)) == ["gradual", "gsm"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_the_keys_that_they_stand_for(recipe: str) -> None:
    section = configured(f"pruning.recipe={recipe}", "pruning.epochs=40").pruning
    for key, value in RECIPES[recipe].keys.items():
        assert getattr(section, key) == value
    assert 20 <= schedules.epochs(section) <= 40, "epochs are those in all"
    assert config.parse(config.dump(configured(f"pruning.recipe={recipe}")), "dump")["pruning"]["recipe"] == recipe


def test_recipe_gsm_trains_by_its_own_hyperparameters_and_the_rows_by_the_default_ones() -> None:
    chosen = configured("pruning.recipe=gsm").pruning
    assert (chosen.while_pruning.optimizer, chosen.hyperparameters.optimizer) == ("sgd", "adam")
    assert schedules.shared(chosen).hyperparameters == chosen.while_pruning


def test_recipes_that_auto_tries_go_with_sparsity_structure_and_epochs() -> None:
    def tried(*words: str) -> set[str]:
        return set(configured("pruning.recipe=auto", *words).pruning.tried)

    assert tried("pruning.epochs=400") == set(RECIPES)
    assert set(RECIPES) - tried("pruning.epochs=8", "pruning.sparsity=0.99") == {"swamp", "iterative"}
    assert tried("pruning.epochs=400", "pruning.structure=2:4") == {"one-shot-layer"}
    assert "gsm" not in tried("pruning.epochs=400", "pruning.structure=filters")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pruning.recipe=best"], "pruning.recipe=best: allowed: one-shot-layer, "),
        (["pruning.recipe=gsm", "pruning.score=snip"],
         'pruning: score="snip" does not go with recipe=gsm, which takes "magnitude"; give one of them'),
        (["pruning.recipe=auto", "pruning.schedule=gsm"],
         'pruning: schedule="gsm" does not go with recipe=auto, which chooses it; give one of them'),
        (["pruning.recipe=auto", "pruning.epochs=3"],
         "pruning: epochs=3 leaves recipe=auto no time; allowed: 4 or more"),
        (["pruning.recipe=auto", "pruning.recipes=[lasso]"], 'pruning.recipes=["lasso"]: allowed: one-shot-layer, '),
        (["pruning.recipe=auto", "pruning.recipes=[erk, erk]"], "pruning.recipes"),
        (["pruning.recipe=auto", "pruning.recipes=[erk]", "pruning.structure=2:4"],
         "pruning: allocation=erk does not go with structure=2:4; allowed: layer"),
        (["pruning.recipes=[erk]"], "pruning: recipes=erk needs recipe=auto"),
        (["pruning.recipe=auto", "search.when=before"],
         "search.when=before does not go with pruning.recipe=auto; allowed: after"),
    ],
)  # fmt: skip
def test_recipes_that_contradict_another_key_are_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        configured("pruning.epochs=8", *words)
    assert str(refused.value).startswith(told)


def test_a_recipe_on_the_command_line_replaces_keys_of_the_file_and_they_replace_it() -> None:
    file = {"pruning": {"allocation": "global", "schedule": "gradual"}}
    assert config.validate(config.overridden(file, ["pruning.recipe=erk"])).pruning.schedule == "one shot"
    chosen = config.overridden({"pruning": {"recipe": "gsm"}}, ["pruning.score=snip"])
    assert config.validate(chosen).pruning.recipe is None
