from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from ray.tune.experiment import Trial

from safs_ray.tune.halving import SuccessiveHalving

STEPS = 8


def halving(seed: int = 0, brackets: int = 3) -> SuccessiveHalving:
    return SuccessiveHalving(
        seed,
        time_attr="training_iteration",
        metric="accuracy",
        mode="max",
        max_t=STEPS,
        grace_period=1,
        reduction_factor=2,
        brackets=brackets,
    )


def trials(count: int) -> list[Trial]:
    return [Trial("chain", stub=True, trial_name_creator=lambda _, index=index: f"{index}") for index in range(count)]


def brackets_of(scheduler: SuccessiveHalving, added: list[Trial]) -> list[int]:
    for trial in added:
        scheduler.on_trial_add(None, trial)
    return [scheduler._brackets.index(scheduler._trial_info[trial.trial_id]) for trial in added]


def verdicts(scheduler: SuccessiveHalving, trial: Trial, accuracy: float, steps: range) -> list[str]:
    """What the scheduler says after each step of a trial that always has this accuracy."""
    said = []
    for step in steps:
        said.append(scheduler.on_trial_result(None, trial, {"training_iteration": step, "accuracy": accuracy}))
        if said[-1] == SuccessiveHalving.STOP:
            break
    return said


def test_brackets_follow_from_the_seed_and_the_names() -> None:
    added = trials(40)
    before = str(np.random.get_state())  # noqa: NPY002
    first = brackets_of(halving(), added)
    assert brackets_of(halving(), trials(40)) == first
    assert brackets_of(halving(seed=1), added) != first
    assert str(np.random.get_state()) == before  # noqa: NPY002


def test_brackets_with_more_rungs_have_more_trials() -> None:
    found = Counter(brackets_of(halving(), trials(3000)))
    odds = [math.exp(rungs) for rungs in (4, 3, 2)]
    for bracket, weight in enumerate(odds):
        assert abs(found[bracket] / 3000 - weight / sum(odds)) < 0.03


def test_one_bracket_takes_all() -> None:
    assert set(brackets_of(halving(brackets=1), trials(20))) == {0}


def test_a_scheduler_that_remembers_decides_as_one_that_went_on() -> None:
    added = trials(24)
    accuracies = np.random.default_rng(0).random(24).tolist()
    whole = halving()
    brackets = brackets_of(whole, added)
    expected = [verdicts(whole, *each, range(1, STEPS + 1)) for each in zip(added, accuracies, strict=True)]

    again = halving()
    for trial, accuracy, said in zip(added[:12], accuracies, expected, strict=False):
        again.remember(str(trial), dict.fromkeys(range(1, len(said) + 1), accuracy))
    assert brackets_of(again, added) == brackets
    pairs = zip(added[12:], accuracies[12:], strict=True)
    assert [verdicts(again, *each, range(1, STEPS + 1)) for each in pairs] == expected[12:]
    assert len({len(each) for each in expected}) > 2, "some are stopped early, some late"


@pytest.mark.parametrize(("steps", "stopped"), [(3, False), (3, True), (4, False), (5, True)])
def test_what_was_decided_is_decided_again(steps: int, stopped: bool) -> None:
    """Whatever the rungs hold by now: here others that are far better."""
    scheduler = halving(brackets=1)
    for index in range(8):
        scheduler.remember(f"better {index}", dict.fromkeys(range(1, STEPS + 1), 0.9))
    (weak,) = trials(1)
    scheduler.expect(str(weak), steps, stopped)
    scheduler.on_trial_add(None, weak)
    said = verdicts(scheduler, weak, 0.1, range(1, STEPS + 1))
    end = steps if stopped else min(milestone for milestone in (1, 2, 4, 8) if milestone >= steps)
    assert said == ["CONTINUE"] * (end - 1) + ["STOP"]


def test_decisions_are_the_first_steps_at_which_a_trial_of_any_bracket_may_stop() -> None:
    assert halving(brackets=1).decisions == {1, 2, 4, 8}
    assert halving(brackets=3).decisions == {1, 2, 4, 8}
    odd = SuccessiveHalving(0, max_t=20, grace_period=2, reduction_factor=2.5, metric="accuracy", mode="max")
    assert odd.decisions == {2, 5, 13}, "2, 5 and 12.5 steps"
    resumed = halving(brackets=1)
    resumed.expect("trial-1", 3, stopped=True)
    resumed.expect("trial-2", 5, stopped=False)
    assert resumed.decisions == {1, 2, 3, 4, 8}, "and where one was stopped by other rungs"
