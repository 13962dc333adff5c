from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hyperopt.pyll.base import dfs
from hyperopt.pyll.stochastic import sample

from safs_ray.config import Hyperparameters, Ranges, SgdRanges, SpaceSection
from safs_ray.tune import space

SPACE = SpaceSection()
DEFAULT = Hyperparameters(batch_size=64)
NARROW = SpaceSection(
    optimizers=("fromage", "sgd"),
    sgd=SgdRanges(learning_rate=(0.01, 0.02), momentum=(0.9, 0.9), schedules=("cosine",)),
    fromage=Ranges(learning_rate=(3e-3, 3e-2), weight_decay=(1e-4, 1e-4)),
)


def draws(section: SpaceSection, count: int = 300) -> list[Hyperparameters]:
    generator = np.random.default_rng(0)
    configs = [sample(space.build(section), rng=generator) for _ in range(count)]
    return [space.hyperparameters(config, DEFAULT) for config in configs]


def test_every_proposal_is_valid_and_lies_in_its_ranges() -> None:
    found = draws(SPACE)
    assert {chosen.optimizer for chosen in found} == {"sgd", "adam", "tadam", "fromage"}
    assert {chosen.schedule for chosen in found if chosen.optimizer == "sgd"} == set(SPACE.sgd.schedules)
    for chosen in found:
        assert 1e-4 <= chosen.learning_rate <= 1e-1
        assert 1e-5 <= chosen.weight_decay <= 1e-1
        assert chosen.batch_size == 64
        if chosen.optimizer == "sgd":
            assert 0.1 <= chosen.momentum <= 0.999
        else:
            assert (chosen.momentum, chosen.schedule) == (0.0, "constant")


def test_each_optimizer_has_ranges_of_its_own() -> None:
    found = draws(NARROW, 100)
    sgd = [chosen for chosen in found if chosen.optimizer == "sgd"]
    fromage = [chosen for chosen in found if chosen.optimizer == "fromage"]
    assert len(sgd) + len(fromage) == 100
    assert all(0.01 <= chosen.learning_rate <= 0.02 for chosen in sgd)
    assert {(chosen.momentum, chosen.schedule) for chosen in sgd} == {(0.9, "cosine")}
    assert max(chosen.weight_decay for chosen in sgd) > 1e-2
    assert all(3e-3 <= chosen.learning_rate <= 3e-2 for chosen in fromage)
    assert {chosen.weight_decay for chosen in fromage} == {1e-4}


def test_learning_rates_are_spread_over_orders_of_magnitude() -> None:
    logarithms = np.log10([chosen.learning_rate for chosen in draws(SPACE)])
    assert np.histogram(logarithms, bins=[-4, -3, -2, -1])[0].min() > 60


def test_a_point_inside_the_space_is_its_own_nearest() -> None:
    inside = Hyperparameters(optimizer="sgd", learning_rate=0.01, weight_decay=1e-3, momentum=0.9, schedule="cosine")
    assert space.nearest(inside, SPACE) == inside
    assert all(space.nearest(chosen, NARROW) == chosen for chosen in draws(NARROW, 20))


def test_nearest_brings_every_value_inside() -> None:
    outside = Hyperparameters(optimizer="adamw", learning_rate=1.0, weight_decay=0.0, momentum=0.0, schedule="cosine")
    assert space.nearest(outside, SPACE) == Hyperparameters(
        optimizer="sgd", learning_rate=0.1, weight_decay=1e-5, momentum=0.1, schedule="cosine"
    )
    assert space.nearest(outside, NARROW) == Hyperparameters(
        optimizer="fromage", learning_rate=3e-2, weight_decay=1e-4, momentum=0.0, schedule="constant"
    )
    other = outside.model_copy(update={"optimizer": "sgd", "schedule": "step"})
    assert space.nearest(other, NARROW) == Hyperparameters(
        optimizer="sgd", learning_rate=0.02, weight_decay=1e-5, momentum=0.9, schedule="cosine"
    )


@pytest.mark.parametrize("section", [SPACE, NARROW], ids=["published", "narrow"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "fromage"])
def test_a_point_names_every_label_of_the_space(section: SpaceSection, optimizer: str) -> None:
    chosen = space.nearest(Hyperparameters.model_validate({"optimizer": optimizer}), section)
    assert set(space.point(chosen, section)) >= labels(section)


def test_a_trial_is_named_by_its_hyperparameters() -> None:
    def name(rate: float) -> str:
        proposal = {"optimizer": "adam", "learning_rate": rate, "weight_decay": 1e-4}
        return space.trial_name({space.PROPOSAL: proposal}, DEFAULT)

    assert name(5e-3) == name(5e-3)
    assert name(5e-3) != name(6e-3)


def test_a_chain_of_stage_1_has_a_number_and_the_default_hyperparameters() -> None:
    config = {space.CHAIN: 3}
    assert space.trial_name(config, DEFAULT) == "chain-3"
    assert space.hyperparameters(config, DEFAULT) == DEFAULT


def test_a_value_that_is_fixed_is_no_part_of_the_search() -> None:
    assert labels(NARROW) == {
        "p_optimizer", "p_sgd_learning_rate", "p_sgd_weight_decay", "p_sgd_schedule", "p_fromage_learning_rate",
    }  # fmt: skip


def labels(section: SpaceSection) -> set[str]:
    nodes: list[Any] = [node for node in dfs(space.build(section)[space.PROPOSAL]) if node.name == "hyperopt_param"]
    return {str(node.arg["label"].obj) for node in nodes}
