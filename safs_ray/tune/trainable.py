"""The trial as Ray Tune sees it: a thin shell around a chain."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from ray import tune

from safs_ray import stages
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Hyperparameters, validate
from safs_ray.data import Arrays, Dataset
from safs_ray.experiment.progress import news_of
from safs_ray.network import Frozen, Network
from safs_ray.search.chain import Chain
from safs_ray.search.course import Course
from safs_ray.training import Context
from safs_ray.tune.board import BoardClient
from safs_ray.tune.proposals import START, TRIAL

SECONDS_AT_ONCE = 5.0
"""After which a trial reports the steps that it has taken; every call of Ray's takes time of the driver and of it."""

FOLLOWED = "followed"
"""Key of a result after which the trial has taken another step already."""


class Trial(tune.Trainable):
    """One step is one evaluation, or a stretch of the fine-tuning once the evaluations are done.

    The arguments of :meth:`setup` beyond the config come through Ray's object store: numpy arrays, which all
    trials of a node share without a copy. A trial whose process died begins again: it takes the steps that it had
    taken from the board.
    """

    _chain: Chain
    _failure: Exception | None
    _longest: float

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        *,
        arrays: Arrays,
        network: Frozen,
        configuration: dict[str, Any],
        course: Course,
        board: str,
        checkpoints: Checkpoints,
        decisions: Collection[int] = (),
    ) -> None:
        """Begin a trial.

        Args:
            decisions: the steps, from 1, after which it may be stopped.
        """
        chosen = validate(configuration)
        splits = stages.folds(chosen, Dataset.from_arrays(arrays)).search()
        device = stages.set_up(chosen)
        self._context = Context(chosen, splits, device, checkpoints=checkpoints)
        self._network = Network.from_arrays(network)
        self._course = course
        self._board = board
        self._decisions = decisions
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process."""
        self._chain.give_up()
        self._chain.forget()
        self._begin(new_config)
        return True

    def train_buffered(self, *limits: float) -> list[dict[str, Any]]:  # noqa: ARG002
        """Several steps, until somebody may decide on the trial, or for :data:`SECONDS_AT_ONCE`.

        An error is raised by the next call if there are steps to report before it.

        Args:
            limits: Ray's, of time and number, which it gives in the wrong order.
        """
        if self._failure:
            raise self._failure
        until, results = time.monotonic() + SECONDS_AT_ONCE, list[dict[str, Any]]()
        while not results or not self._has_to_report(results[-1], until):
            try:
                results.append(self._train_timed())
            except Exception as error:
                if not results:
                    raise
                self._failure = error
                break
        return [{**result, FOLLOWED: "yes"} for result in results[:-1]] + results[-1:]

    def _train_timed(self) -> dict[str, Any]:
        """One step, of which the next is not expected to take longer."""
        before = time.monotonic()
        result: dict[str, Any] = self.train()  # type: ignore[no-untyped-call]
        self._longest = max(self._longest, time.monotonic() - before)
        return result

    def _has_to_report(self, last: dict[str, Any], until: float) -> bool:
        """Whether the next step is another's to allow, or may come too late, or is the first that is new."""
        chain = self._chain
        turning = chain.iteration in (*self._decisions, self._course.evaluations)  # fine-tuning takes another time
        first_new = last["recorded"] == "before" and not chain.replaying
        return chain.finished or turning or first_new or time.monotonic() + self._longest > until

    def step(self) -> dict[str, Any]:
        recorded = self._chain.replaying
        evaluation = self._chain.step()
        metric = self._context.configuration.data.chosen_metric.rpartition(":")[2].replace(" ", "_")
        return {
            **news_of(evaluation),
            f"validation_{metric}": evaluation.validation_accuracy,  # what TensorBoard calls it
            f"best_{metric}": evaluation.best_accuracy,
            "fine_tuning": int(evaluation.phase == "fine-tuning"),
            "best_assignment": ",".join(self._chain.best),
            "recorded": "before" if recorded else "now",
            "done": self._chain.finished,
        }

    def cleanup(self) -> None:
        """Called by Ray when the trial ends."""
        self._chain.give_up()

    def _begin(self, config: dict[str, Any]) -> None:
        """Begin the chain of a trial, of which no step has been taken here."""
        start = config.get(START)
        self._failure, self._longest = None, 0.0
        self._chain = Chain(
            self._network,
            self._context,
            Hyperparameters(**config["hyperparameters"]),
            BoardClient(self._board, config[TRIAL]),
            self._course,
            config[TRIAL],
            tuple(start.split(",")) if start else None,
        )
