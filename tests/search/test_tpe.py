from __future__ import annotations

import random

from hyperopt import Trials, hp, tpe
from hyperopt.base import JOB_STATE_DONE, STATUS_OK, Domain

from safs_ray.config import TpeSection
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.tpe import TreeParzen

OPERATORS = ("relu", "tanh", "srs", "elu")
START = ("relu",) * 3


def parzen(startup: int = 3, seed: int = 0, start: Assignment = START) -> TreeParzen:
    return TreeParzen(OPERATORS, start, TpeSection(startup=startup), seed)


def cost(assignment: Assignment) -> float:
    return derive(1, *assignment) % 97 / 97


def test_the_same_as_hyperopt_by_itself() -> None:
    """HyperOpt's own trials, that grow from its own suggestions, lead to the same candidates."""
    labels = [f"site {index}" for index in range(3)]
    domain = Domain(None, {label: hp.choice(label, OPERATORS) for label in labels})
    trials, draws, expected = Trials(), random.Random(7), []
    for number in range(12):
        if number:
            [document] = tpe.suggest([number], domain, trials, draws.getrandbits(32), n_startup_jobs=3)
        else:
            [document] = tpe.suggest([number], domain, trials, 0, n_startup_jobs=3)
            document["misc"]["vals"] = {label: [0] for label in labels}  # the start
        assignment = tuple(OPERATORS[document["misc"]["vals"][label][0]] for label in labels)
        expected.append(assignment)
        document["state"], document["result"] = JOB_STATE_DONE, {"status": STATUS_OK, "loss": cost(assignment)}
        trials.insert_trial_doc(document)
        trials.refresh()
    search, found = parzen(seed=7), []
    for _ in range(12):
        found.append(search.ask())
        search.tell(cost(found[-1]))
    assert found == expected


def test_the_model_worked_by_hand() -> None:
    """One site; srs was best of four, so it is 2/5 among the good and 1/7 among the others, the largest ratio.

    With a pseudocount of one for each of the four operators, the others are 1/5 and 2/7. All 24 draws miss srs
    with a probability of 0.6**24, about 5e-6.
    """
    told: list[tuple[Assignment, float]] = [(("relu",), 0.5), (("tanh",), 0.6), (("srs",), 0.1), (("elu",), 0.7)]
    for seed in range(10):
        search = parzen(seed=seed, start=("relu",))
        search.evaluated, search.iteration = told, 4
        assert search.ask() == ("srs",)


def test_a_start_outside_the_operators_is_not_learned_from() -> None:
    search = parzen(start=("gelu", "relu", "relu"))
    for _ in range(5):
        search.tell(cost(search.ask()))
    assert len(search.evaluated) == 4
    assert search.iteration == 5


def test_the_model_proposes_what_was_good() -> None:
    """The share of srs, each of which takes a third off the cost, in the last ten of thirty candidates."""

    def share(startup: int, seed: int) -> float:
        search = TreeParzen(OPERATORS, START, TpeSection(startup=startup, gamma=1.0), seed)
        found = []
        for _ in range(30):
            found.append(search.ask())
            search.tell(1 - found[-1].count("srs") / 3)
        return sum(candidate.count("srs") for candidate in found[-10:]) / 30

    modelled, drawn = (sum(share(startup, seed) for seed in range(8)) / 8 for startup in (10, 1000))
    assert modelled > drawn + 0.2
