from __future__ import annotations

import numpy as np
import pytest
from hyperopt.pyll.stochastic import sample

from safs_ray.config import Hyperparameters, SpaceSection
from safs_ray.tune import space

SPACE = SpaceSection()
DEFAULT = Hyperparameters(batch_size=64)


def draws(count: int = 300) -> list[Hyperparameters]:
    generator = np.random.default_rng(0)
    configs = [sample(space.build(SPACE), rng=generator) for _ in range(count)]
    return [space.hyperparameters(config, DEFAULT) for config in configs]


def test_every_proposal_is_valid_and_lies_in_its_ranges() -> None:
    found = draws()
    assert {chosen.optimizer for chosen in found} == {"sgd", "adam"}
    assert {chosen.schedule for chosen in found if chosen.optimizer == "sgd"} == set(SPACE.schedules)
    for chosen in found:
        assert 1e-4 <= chosen.learning_rate <= 1e-1
        assert 1e-5 <= chosen.weight_decay <= 1e-1
        assert chosen.batch_size == 64
        if chosen.optimizer == "sgd":
            assert 0.1 <= chosen.momentum <= 0.999
        else:
            assert (chosen.momentum, chosen.schedule) == (0.0, "constant")


def test_learning_rates_are_spread_over_orders_of_magnitude() -> None:
    logarithms = np.log10([chosen.learning_rate for chosen in draws()])
    assert np.histogram(logarithms, bins=[-4, -3, -2, -1])[0].min() > 60


def test_a_point_inside_the_space_is_its_own_nearest() -> None:
    inside = Hyperparameters(optimizer="sgd", learning_rate=0.01, weight_decay=1e-3, momentum=0.9, schedule="cosine")
    assert space.nearest(inside, SPACE) == inside


def test_nearest_brings_every_value_inside() -> None:
    outside = Hyperparameters(optimizer="adamw", learning_rate=1.0, weight_decay=0.0, momentum=0.0, schedule="cosine")
    assert space.nearest(outside, SPACE) == Hyperparameters(
        optimizer="sgd", learning_rate=0.1, weight_decay=1e-5, momentum=0.1, schedule="cosine"
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_point_names_every_label_of_the_space(optimizer: str) -> None:
    chosen = space.nearest(Hyperparameters.model_validate({"optimizer": optimizer}), SPACE)
    labels = {str(node.arg["label"].obj) for node in _nodes(space.build(SPACE)[space.PROPOSAL])}
    assert set(space.point(chosen, SPACE)) == labels


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


def _nodes(root: object) -> list[object]:
    from hyperopt.pyll.base import dfs

    return [node for node in dfs(root) if node.name == "hyperopt_param"]
