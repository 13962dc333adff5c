from __future__ import annotations

import numpy as np
import pytest

from safs_ray.config import Hyperparameters, Ranges, SgdRanges, SpaceSection
from safs_ray.search import parzen, space

SPACE = SpaceSection()
DEFAULT = Hyperparameters(batch_size=64)
NARROW = SpaceSection(
    optimizers=("fromage", "sgd"),
    sgd=SgdRanges(learning_rate=(0.01, 0.02), momentum=(0.9, 0.9), schedules=("cosine",)),
    fromage=Ranges(learning_rate=(3e-3, 3e-2), weight_decay=(1e-4, 1e-4)),
)


def draws(section: SpaceSection, count: int = 300) -> list[Hyperparameters]:
    domain = space.build(section)
    values = [parzen.draw(domain, seed) for seed in range(count)]
    return [space.hyperparameters(each, section, domain, DEFAULT) for each in values]


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


def test_what_is_not_proposed_is_the_defaults_with_its_optimizer() -> None:
    sgd = Hyperparameters(optimizer="sgd", learning_rate=0.01, momentum=0.9, weight_decay=1e-3, nesterov=True)
    adam = Hyperparameters(learning_rate=1e-3, weight_decay=1e-3, schedule="cosine")
    assert space.nearest(sgd, SPACE) == sgd
    assert space.nearest(adam, SPACE) == adam
    domain = space.build(SPACE)
    for default in (sgd, adam):
        drawn = [space.hyperparameters(parzen.draw(domain, seed), SPACE, domain, default) for seed in range(40)]
        assert {each.optimizer for each in drawn} == set(SPACE.optimizers)
        for each in drawn:
            assert each.nesterov == (each.optimizer == "sgd" == default.optimizer)
            if each.optimizer != "sgd":
                assert each.schedule == ("cosine" if each.optimizer == default.optimizer else "constant")


@pytest.mark.parametrize("section", [SPACE, NARROW], ids=["published", "narrow"])
def test_values_and_hyperparameters_say_the_same(section: SpaceSection) -> None:
    domain = space.build(section)
    for chosen in draws(section, 50):
        values = space.values(chosen, section, domain)
        assert space.hyperparameters(values, section, domain, DEFAULT) == chosen
        assert {label.split()[0] for label in values} == {"optimizer", chosen.optimizer}


def test_a_value_that_is_fixed_is_no_part_of_the_search() -> None:
    assert set(space.build(NARROW).params) == {
        "optimizer", "sgd learning_rate", "sgd weight_decay", "sgd schedule", "fromage learning_rate",
    }  # fmt: skip
