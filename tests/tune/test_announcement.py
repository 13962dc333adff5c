from __future__ import annotations

import pytest

from safs_ray import stages
from safs_ray.config import Configuration
from safs_ray.tune.announcement import _one_after_another


def told(configuration: Configuration, workers: int, **tune: object) -> float:
    changed = configuration.model_copy(update={"tune": configuration.tune.model_copy(update=tune)})
    return _one_after_another(changed, stages.plan(changed), workers)


def test_trainings_that_wait_for_one_another_take_their_time(configuration: Configuration) -> None:
    plan = stages.plan(configuration)
    trials = plan["search"] + plan["fine-tuning"]
    assert told(configuration, workers=1) == sum(plan.values()) - plan["dense training"]
    last = plan["finalists"] + plan["final evaluation"]
    assert told(configuration, workers=3, max_concurrent=None) == plan["pruning"] + trials / 3 + last / 3
    assert told(configuration, workers=3, max_concurrent=1) == plan["pruning"] + trials + last / 3
    assert told(configuration, workers=100, max_concurrent=None) == pytest.approx(
        plan["pruning"] + trials / 3 + last / 100
    )
