"""The board: a named actor that keeps every evaluation of a run and serves repeats.

Its records lie as Parquet parts in the run folder; a part is written again, whole, with new records until it is full,
so that an evaluation that was reported is never lost. Records that come while others are being written are written
together next, so that many trials do not wait for one another's writes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast

import ray

from safs_ray.search.assignment import Assignment
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Claimed, Evaluation, Ledger
from safs_ray.search.records import names_of_parts, read_evaluations, read_part, to_parquet
from safs_ray.storage import DamagedError, Folder

NAMESPACE = "safs"
PART_ROWS = 256
CALLS = 64
"""That are served at a time: so many records can be written together."""
UNKNOWN, SHORTEST = 3600.0, 60.0
"""Seconds after which a claim is given to another trial, for who had it may have died: before it is known how long an
evaluation takes, and at the earliest."""
AGAIN = 0.2, 5.0
"""Seconds between questions for an evaluation that another trial is training: the first, and in the end."""


@dataclass(frozen=True)
class Claim:
    """Who trains an evaluation that others may want.

    Attributes:
        since: when it was begun, on the board's clock.
    """

    asker: str
    since: float

    def is_old(self, longest: float | None) -> bool:
        """Whether whoever claimed it must have failed; ``longest`` is what any evaluation has taken, in seconds."""
        limit = UNKNOWN if longest is None else max(SHORTEST, 3 * longest)
        return time.monotonic() - self.since > limit


class Board:
    """The actor's class: a ledger whose records are on storage before :meth:`record` returns.

    Parts that are damaged are set aside: their evaluations are made again, with the same bits. Calls come from several
    threads.

    Args:
        location: of the records.
        earlier: of the records of another run, which are served but are not this run's.
    """

    def __init__(self, location: str, earlier: str) -> None:
        self._folder = Folder.at(location)
        self._ledger, self._earlier = Ledger(), Ledger(read_evaluations(Folder.at(earlier)))
        self._damage: list[str] = []
        names = names_of_parts(self._folder)
        for name in names:
            try:
                part = read_part(self._folder, name)
            except DamagedError as error:
                self._damage.append(f"warning: {error}; its evaluations will be made again")
                self._folder.set_aside(name)
                continue
            for evaluation in part:
                self._ledger.record(evaluation)
        # Always a new part: a board that a killed driver left behind may still write the last one.
        self._number = int(names[-1][len("part-") : -len(".parquet")]) + 1 if names else 0
        self._part: list[Evaluation] = []
        self._waiting: list[Evaluation] = []
        self._claims: dict[str, Claim] = {}
        self._longest: float | None = None
        self._memory, self._writing = Lock(), Lock()

    def damage(self) -> list[str]:
        """What there is to warn of the parts that were read, a line each; workers' own logs are shown to nobody."""
        return self._damage

    def recall(self, key: str, asker: str) -> Evaluation | Claim:
        """The evaluation of this key; or who trains it now, the asker when nobody else does."""
        with self._memory:
            if known := self._ledger.recall(key) or self._earlier.recall(key):
                return known
            claim = self._claims.get(key)
            if not claim or claim.asker == asker or claim.is_old(self._longest):
                claim = self._claims[key] = Claim(asker, time.monotonic())
            return claim

    def release(self, key: str, asker: str) -> None:
        """Take back a claim: the asker does not train the evaluation after all."""
        with self._memory:
            if (claim := self._claims.get(key)) and claim.asker == asker:
                del self._claims[key]

    def record(self, evaluation: Evaluation) -> None:
        """Keep an evaluation; one of the same trial and iteration is kept once."""
        with self._memory:
            self._waiting.append(evaluation)
        try:
            with self._writing:
                with self._memory:
                    written = evaluation in self._ledger  # by the call before, with its own
                    waiting = list(self._waiting)
                if not written:
                    self._write(waiting)
        finally:
            with self._memory:
                self._waiting.remove(evaluation)

    def _write(self, evaluations: Sequence[Evaluation]) -> None:
        """Bring evaluations to storage, and then to what is recalled: a disk may be full."""
        with self._memory:
            places = Ledger(evaluations).evaluations
            new = [evaluation for evaluation in places if evaluation not in self._ledger]
        while new:
            if len(self._part) == PART_ROWS:
                self._number, self._part = self._number + 1, []
            fitting, new = new[: PART_ROWS - len(self._part)], new[PART_ROWS - len(self._part) :]
            part = [*self._part, *fitting]
            self._folder.write(f"part-{self._number:05d}.parquet", to_parquet(part))
            self._part = part
            with self._memory:
                for evaluation in fitting:
                    self._ledger.record(evaluation)
                    if claim := self._claims.pop(evaluation.key, None):
                        self._longest = max(self._longest or 0.0, time.monotonic() - claim.since)

    def steps(self, sweep: Sweep, trial: str) -> dict[int, Evaluation]:
        """What is recorded of a trial, by iteration."""
        with self._memory:
            return self._ledger.steps(sweep, trial)

    def best(self, sweep: Sweep) -> Assignment | None:
        """The best assignment of a sweep so far; None before there is any. Another run's may not fit this one."""
        with self._memory:
            found = self._ledger.best(sweep)
        return found.assignment if found else None

    def evaluations(self) -> list[Evaluation]:
        """Every evaluation of the run, in the order of arrival."""
        with self._memory:
            return self._ledger.evaluations


class BoardClient:
    """The board as the :class:`~safs_ray.search.evaluation.Memory` of a chain, from any process.

    Args:
        asker: the trial that asks.
    """

    def __init__(self, name: str, asker: str = "") -> None:
        self._actor = ray.get_actor(name, namespace=NAMESPACE)
        self._asker = asker

    def recall(self, key: str) -> Evaluation | None:
        """The evaluation of this key, once it is there when another trial trains it; else None."""
        pause, longest = AGAIN
        while True:
            found = cast(Evaluation | Claim, ray.get(self._actor.recall.remote(key, self._asker)))
            if isinstance(found, Evaluation):
                return found
            if found.asker == self._asker:
                return None
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def claim(self, key: str) -> Claimed:
        """Whose an evaluation is to make: the asker's from now on, unless another makes it or it is there."""
        found = cast(Evaluation | Claim, ray.get(self._actor.recall.remote(key, self._asker)))
        if isinstance(found, Evaluation):
            return "known"
        return "mine" if found.asker == self._asker else "another's"

    def release(self, key: str) -> None:
        ray.get(self._actor.release.remote(key, self._asker))

    def steps(self, sweep: Sweep, trial: str) -> dict[int, Evaluation]:
        return cast(dict[int, Evaluation], ray.get(self._actor.steps.remote(sweep, trial)))

    def record(self, evaluation: Evaluation) -> None:
        ray.get(self._actor.record.remote(evaluation))

    def best(self, sweep: Sweep) -> Assignment | None:
        """The best assignment of a sweep so far, or None."""
        return cast(Assignment | None, ray.get(self._actor.best.remote(sweep)))

    def evaluations(self) -> list[Evaluation]:
        """Every evaluation of the run, in the order of arrival."""
        return cast(list[Evaluation], ray.get(self._actor.evaluations.remote()))


def open_board(name: str, location: str, earlier: str) -> Any:
    """The run's board, started when it is not running; it comes back with its records when its node is lost."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board)  # every call may be made twice
    named = actor.options(name=name, namespace=NAMESPACE, get_if_exists=True, max_concurrency=CALLS)
    return named.remote(location, earlier)
