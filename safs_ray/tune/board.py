"""The board: a named actor that keeps every evaluation of a run and serves repeats.

Its records lie as Parquet parts in the run folder; a part is rewritten, whole, with each record until it is
full, so that an evaluation that was reported is never lost.
"""

from __future__ import annotations

from typing import Any, cast

import ray

from safs_ray.search.evaluation import Evaluation, Ledger
from safs_ray.search.records import read_evaluations, to_parquet
from safs_ray.storage import Folder

NAMESPACE = "safs"
PART_ROWS = 256


class Board:
    """The actor's class: a ledger whose records are on storage before :meth:`record` returns."""

    def __init__(self, location: str) -> None:
        self._folder = Folder.at(location)
        self._ledger = Ledger(read_evaluations(self._folder))

    def recall(self, key: str) -> Evaluation | None:
        """The first evaluation of this key that was trained, or None."""
        return self._ledger.recall(key)

    def record(self, evaluation: Evaluation) -> None:
        """Keep an evaluation; one of the same trial and iteration is kept once."""
        if evaluation in self._ledger:
            return
        self._ledger.record(evaluation)
        evaluations = self._ledger.evaluations
        part = (len(evaluations) - 1) // PART_ROWS
        self._folder.write(f"part-{part:05d}.parquet", to_parquet(evaluations[part * PART_ROWS :]))

    def evaluations(self) -> list[Evaluation]:
        """Every evaluation of the run, in the order of arrival."""
        return self._ledger.evaluations


class BoardClient:
    """The board as the :class:`~safs_ray.search.evaluation.Memory` of a chain, from any process."""

    def __init__(self, name: str) -> None:
        self._actor = ray.get_actor(name, namespace=NAMESPACE)

    def recall(self, key: str) -> Evaluation | None:
        return cast(Evaluation | None, ray.get(self._actor.recall.remote(key)))

    def record(self, evaluation: Evaluation) -> None:
        ray.get(self._actor.record.remote(evaluation))


def open_board(name: str, location: str) -> Any:
    """The run's board, started when it is not running; it comes back with its records when its node is lost."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=3)(Board)
    return actor.options(name=name, namespace=NAMESPACE, get_if_exists=True).remote(location)
