"""What follows from a budget, as a function of the configuration and of the time of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safs_ray import config
from safs_ray.config import Configuration, ConfigurationError, leaves
from safs_ray.experiment.budgeting import PLANNED, in_words, ladder, planned, within
from safs_ray.experiment.forecasting import SecondsPerEpoch, Workers, forecast

FOLDER = Path(__file__).parents[2] / "tune_configs"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml"))
TWO = Workers(2, begin=7, end=10, start=5, step=0.2)
MNIST, DIGITS = SecondsPerEpoch(3.0, 0.4, 0.4), SecondsPerEpoch(0.1, 0.02, 0.02)

Forecast = Callable[[Configuration], Mapping[str, float]]


def by(epoch: SecondsPerEpoch) -> Forecast:
    return lambda some: forecast(some, epoch, TWO)


def configured(name: str, *words: str) -> tuple[Configuration, Collection[str]]:
    path = FOLDER / f"{name}.yaml"
    return config.load(path, words), config.beside_budget(config.read(path), words)


def seconds(configuration: Configuration, epoch: SecondsPerEpoch) -> float:
    return sum(forecast(configuration, epoch, TWO).values())


def some_of(configuration: Configuration, *keys: str) -> list[Any]:
    values = leaves(configuration.model_dump(mode="json"))
    return [values[key] for key in keys]


EPOCHS = (
    "dense.epochs", "pruning.epochs", "search.epochs", "finetune.epochs", "finetune.epochs_per_step", "final.epochs"
)  # fmt: skip
BREADTH = ("tune.trials", "search.steps", "tune.grace_period", "final.finalists", "final.seeds")


def test_within_what_the_configuration_takes_there_is_all_of_it() -> None:
    whole, beside = configured("quickstart", "run.budget=20m")
    enough = seconds(whole, DIGITS) / PLANNED
    assert within(enough, whole, beside, by(DIGITS)) == whole


def test_within_less_the_trainings_are_shorter_and_the_search_smaller() -> None:
    whole, beside = configured("best", "run.budget=3m")
    chosen = within(180, whole, beside, by(MNIST))
    assert some_of(whole, *EPOCHS) == [20, 20, 4, 12, 4, 20]
    assert some_of(chosen, *EPOCHS) == [14, 14, 3, 9, 3, 14]
    assert some_of(chosen, *BREADTH) == [2, 2, 4, 1, 1]
    assert chosen.pruning.tried == ("gradual", "gsm")
    assert (chosen.pruning.recipe, chosen.final.folds, chosen.run.budget) == ("auto", 3, "3m")


def test_within_more_there_is_up_to_four_times_as_much() -> None:
    whole, beside = configured("best", "run.budget=20m")
    assert some_of(within(1200, whole, beside, by(MNIST)), *EPOCHS) == [40, 80, 8, 24, 8, 40]
    most = within(1e6, whole, beside, by(MNIST))
    assert some_of(most, *EPOCHS) == [80, 80, 16, 48, 16, 80]
    assert some_of(most, *BREADTH) == [32, 32, 25, 2, 2]


def test_within_after_pruning_in_one_shot_the_search_comes_before_longer_trainings() -> None:
    steps = {
        name: ladder(*configured("quickstart", f"pruning.recipe={name}")) for name in ("gradual", "one-shot-global")
    }
    whole_search = {name: next(step for step in rising if step.tune.trials == 12) for name, rising in steps.items()}
    assert whole_search["gradual"].final.epochs == 80
    assert whole_search["one-shot-global"].final.epochs == 40


def test_within_a_key_that_is_given_stays(tmp_path: Path) -> None:
    words = ("dense.epochs=7", "final.epochs=3", "tune.trials=5", "pruning.recipes=[erk, rigl]")
    whole, beside = configured("best", "run.budget=4m", *words)
    for step in ladder(whole, beside):
        assert some_of(step, "dense.epochs", "final.epochs", "tune.trials") == [7, 3, 5]
        assert step.pruning.recipes == ("erk", "rigl")
    file = tmp_path / "mine.yaml"
    file.write_text("run: {budget: 4m}\nfinetune: {epochs: 12, epochs_per_step: 4}\nsearch: {steps: 9}\n")
    for step in ladder(config.load(file), config.beside_budget(config.read(file), [])):
        assert some_of(step, "finetune.epochs", "finetune.epochs_per_step", "search.steps") == [12, 4, 9]
    one, beside = configured("quickstart", "finetune.epochs_per_step=10")
    assert {step.finetune.epochs_per_step for step in ladder(one, beside)} == {10}


def test_within_the_rules_between_keys_hold_where_some_are_given() -> None:
    whole, beside = configured("quickstart", "tune.grace_period=10", "tune.max_t=12", "tune.brackets=1")
    for step in ladder(whole, beside):
        assert (step.tune.grace_period, step.tune.max_t) == (10, 12)
        assert step.whole >= 12


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], r"^run.budget=30s: does not hold dense training, pruning and final evaluation: at the shortest about "
             r"5\d s here; allowed: 70s or more$"),
        (["dense.epochs=60"], r"^run.budget=30s: .* at the shortest about 4 min here; allowed: 2[56]0s or more$"),
    ],
)  # fmt: skip
def test_within_a_budget_that_does_not_hold_the_dense_training_is_refused(words: list[str], told: str) -> None:
    whole, beside = configured("best", "run.budget=30s", *words)
    with pytest.raises(ConfigurationError, match=told):
        within(30, whole, beside, by(MNIST))


def test_within_a_search_that_is_given_is_no_reason_for_a_refusal() -> None:
    whole, beside = configured("best", "run.budget=3m", "tune.trials=1000")
    chosen, told = planned(whole, beside, 180, by(MNIST))
    assert chosen.dense.epochs == 2
    assert seconds(chosen, MNIST) > 180
    assert told[0].endswith("are planned: what is not reached at its end is left out")


def test_in_words_what_was_cut_and_what_has_grown() -> None:
    whole, beside = configured("best", "run.budget=3m", "final.epochs=30")
    _, told = planned(whole, beside, 180, by(MNIST))
    assert told == [
        "budget     3 min, of which about 3 min are planned",
        "  less     dense.epochs=10 (20), pruning.epochs=10 (20), pruning.recipes=[gradual, gsm] (7), "
        "final.finalists=1 (2), final.seeds=1 (2), search.epochs=2 (4), search.steps=2 (8), tune.trials=2 (8), "
        "finetune.epochs=6 (12), finetune.epochs_per_step=2 (4), tune.grace_period=4 (8)",
        "  as given final.epochs=30",
    ]
    assert list(in_words(whole, whole, (), 80.0)) == [
        "budget     3 min, of which about 80 s are planned: no key grows any further"
    ]


EPOCH = st.tuples(st.floats(0.01, 60), st.floats(0.05, 1)).map(
    lambda two: SecondsPerEpoch(two[0], two[0] * two[1], two[0] * two[1])
)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(SHIPPED), EPOCH, st.floats(100, 1e5), st.floats(1, 20))
def test_within_holds_its_budget_and_more_time_gives_less_of_nothing(
    name: str, epoch: SecondsPerEpoch, budget: float, factor: float
) -> None:
    whole, beside = configured(name, "run.budget=1h")
    rising = ladder(whole, beside)
    try:
        chosen, longer = (within(time, whole, beside, by(epoch)) for time in (budget, budget * factor))
    except ConfigurationError:
        assert seconds(rising[0], epoch) > budget
        return
    assert rising.index(chosen) <= rising.index(longer)
    assert chosen == within(budget, whole, beside, by(epoch))
    took = seconds(chosen, epoch)
    assert took <= 1.25 * budget or chosen == rising[0]
    assert took >= 0.5 * budget or chosen == rising[-1]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("words", [(), ("search.protocol=staged", "search.chains=3", "tune.grace_period=1")])
def test_ladder_has_less_of_nothing_at_a_higher_level(name: str, words: tuple[str, ...]) -> None:
    rising = ladder(*configured(name, "run.budget=1h", *words))
    assert len(rising) > 30
    for lower, higher in pairwise(rising):
        before, after = (leaves(step.model_dump(mode="json")) for step in (lower, higher))
        changed = {key for key in before if before[key] != after[key]}
        assert changed
        for key in changed:
            less, more = before[key], after[key]
            assert set(less) < set(more) if isinstance(less, list) else less < more, key
