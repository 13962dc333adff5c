from __future__ import annotations

import pytest

from safs_ray.config import Configuration
from safs_ray.search.course import Course, Sweep, joint, operators_only, scales_only


def test_epochs_of_a_course(configuration: Configuration) -> None:
    course = joint(configuration)
    assert [course.epochs(done, configuration) for done in range(7)] == [0, 1, 2, 3, 4, 6, 8]
    courses = course, operators_only(configuration), scales_only(configuration, Sweep.SAFS)
    assert [each.steps for each in courses] == [6, 4, 2]


@pytest.mark.parametrize(("max_t", "evaluations", "stretches"), [(3, 3, 0), (4, 4, 0), (5, 4, 1), (None, 4, 2)])
def test_a_course_may_end_early(
    configuration: Configuration, max_t: int | None, evaluations: int, stretches: int
) -> None:
    shorter = configuration.model_copy(update={"tune": configuration.tune.model_copy(update={"max_t": max_t})})
    assert joint(shorter) == Course(Sweep.SAFS, evaluations, stretches)


def test_each_protocol_has_its_courses(configuration: Configuration) -> None:
    assert joint(configuration) == Course(Sweep.SAFS, evaluations=4, stretches=2)
    assert operators_only(configuration) == Course(Sweep.OPERATORS, evaluations=4, stretches=0)
    for sweep in (Sweep.SAFS, Sweep.SCALES):
        assert scales_only(configuration, sweep) == Course(sweep, evaluations=0, stretches=2)


def test_only_the_trials_of_stage_1_have_the_default_hyperparameters() -> None:
    assert {sweep: Course(sweep, 1, 1).searches_hyperparameters for sweep in Sweep} == {
        "stage 1": False,
        "stage 2": True,
        "SAFS": True,
    }


@pytest.mark.parametrize(
    ("sweep", "names"),
    [
        (Sweep.OPERATORS, ["chain-1", "chain-2", "chain-10"]),
        (Sweep.SCALES, ["trial-1", "trial-2", "trial-10"]),
        (Sweep.SAFS, ["trial-1", "trial-2", "trial-10"]),
    ],
)
def test_a_course_names_its_trials_as_people_count(sweep: Sweep, names: list[str]) -> None:
    course = Course(sweep, 1, 0)
    assert [course.trial(number) for number in (0, 1, 9)] == names
    assert [course.number(name) for name in names] == [0, 1, 9]
