"""The tree-structured Parzen estimator (Bergstra et al. 2011), through HyperOpt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hyperopt import hp, tpe
from hyperopt.base import JOB_STATE_DONE, STATUS_OK, Domain, Trials, trials_from_docs

from safs_ray.config import TpeSection
from safs_ray.search.assignment import Assignment
from safs_ray.search.proposer import Proposer


class TreeParzen(Proposer):
    """Prefers, site by site, the operators that are frequent in the best assignments and rare in the others.

    The best so far is the current one. HyperOpt is given all evaluations anew at every proposal and a seed
    drawn for it, so that it keeps nothing by itself. Its model knows only ``operators``: a start with others is
    evaluated but not learned from.

    Attributes:
        evaluated: assignments and their costs, in the order of evaluation.
    """

    def __init__(self, operators: Sequence[str], start: Assignment, settings: TpeSection, seed: int) -> None:
        super().__init__(operators, start, seed)
        self.settings = settings
        self.evaluated: list[tuple[Assignment, float]] = []
        self._labels = [f"site {index}" for index in range(len(start))]
        self._domain = Domain(None, {label: hp.choice(label, self.operators) for label in self._labels})

    def _propose(self) -> Assignment:
        [proposal] = tpe.suggest(
            [self.iteration],
            self._domain,
            self._trials(),
            seed=self._draws.getrandbits(32),
            n_startup_jobs=self.settings.startup,
            gamma=self.settings.gamma,
            verbose=False,
        )
        chosen = proposal["misc"]["vals"]
        return tuple(self.operators[chosen[label][0]] for label in self._labels)

    def _trials(self) -> Trials:
        """The evaluations in HyperOpt's terms."""
        return trials_from_docs(
            [self._document(number, assignment, cost) for number, (assignment, cost) in enumerate(self.evaluated)]
        )

    def _document(self, number: int, assignment: Assignment, cost: float) -> dict[str, Any]:
        chosen = zip(self._labels, assignment, strict=True)
        return {
            "tid": number,
            "state": JOB_STATE_DONE,
            "result": {"status": STATUS_OK, "loss": cost},
            "misc": {
                "tid": number,
                "cmd": self._domain.cmd,
                "workdir": None,
                "idxs": {label: [number] for label in self._labels},
                "vals": {label: [self.operators.index(operator)] for label, operator in chosen},
            },
            "spec": None,
            "exp_key": None,
            "owner": None,
            "version": 0,
            "book_time": None,
            "refresh_time": None,
        }

    def _learn(self, cost: float) -> None:
        if set(self._candidate) <= set(self.operators):
            self.evaluated.append((self._candidate, cost))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "evaluated": list(self.evaluated)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.evaluated = list(state["evaluated"])
