"""A run folder as the report reads it, whether the run is finished or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import takewhile
from typing import Any

from safs_ray import config, stages
from safs_ray.config import CONFIGURATION, RESULTS, Configuration, ConfigurationError, refusal
from safs_ray.data import Examples
from safs_ray.experiment import Row, rows_of, start_of
from safs_ray.experiment.results import Finalists, TableRow, read_finalists, search_cost, table
from safs_ray.network import Network
from safs_ray.report.measurement import validation_images
from safs_ray.report.sweeps import SweepRecord, sweeps_of
from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.records import endings, read_evaluations
from safs_ray.stages import Result
from safs_ray.stages.classes import told
from safs_ray.storage import DamagedError, Folder


@dataclass(frozen=True)
class Record:
    """What is known of a run; all but the configuration may be missing.

    Attributes:
        text: config.yaml as it stands in the folder.
        results: the content of results.json, None before the run has ended.
        evaluations: in the order of arrival.
    """

    folder: Folder
    configuration: Configuration
    text: str
    results: dict[str, Any] | None
    evaluations: tuple[Evaluation, ...]

    @classmethod
    def read(cls, folder: Folder) -> Record:
        """The record of a run folder.

        Raises:
            ConfigurationError: the folder holds no run, or a configuration that this version does not know.
        """
        if not folder.exists(CONFIGURATION):
            raise refusal("run", str(folder), f"holds no {CONFIGURATION}; allowed: the folder of a run")
        text = folder.read(CONFIGURATION).decode()
        configuration = config.validate(config.parse(text, f"{folder}/{CONFIGURATION}"))
        results = folder.read_json(RESULTS) if folder.exists(RESULTS) else None
        return cls(folder, configuration, text, results, tuple(read_evaluations(folder / "evaluations")))

    @property
    def name(self) -> str:
        """The name of the folder, which may have been renamed since the run."""
        return self.folder.name

    @property
    def measure(self) -> str:
        """What the run's metric is called."""
        return self.configuration.measure

    @property
    def finished(self) -> bool:
        return self.results is not None

    @property
    def versions(self) -> str:
        """The versions of Python and of the packages, as the run wrote them; empty when it did not."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("# ") if first.startswith("# ") else ""

    @property
    def classes(self) -> str:
        """The classes by name, in one line; empty where they have none."""
        try:
            return told(stages.read_classes(self.folder))
        except DamagedError:
            return ""

    def result(self, stage: str) -> Result | None:
        """What a stage made; None when it is not complete or its network was not kept."""
        return Result.load(self.folder / "networks" / stage)

    def metrics(self, stage: str) -> dict[str, Any] | None:
        """The numbers of :meth:`result`, without its network."""
        folder = self.folder / "networks" / stage
        return dict(folder.read_json("metrics.json")) if folder.exists("metrics.json") else None

    def folds(self, row: str) -> list[str]:
        """The stages that evaluated a row in the end, on the folds up to the first that is not done."""
        names = (f"final/{row}/fold-{fold}" for fold in range(self.configuration.final.folds))
        return list(takewhile(self.metrics, names))

    def finals(self, row: str) -> list[Result]:
        """The final evaluation of a row on each of :meth:`folds`."""
        return [result for stage in self.folds(row) if (result := self.result(stage))]

    @cached_property
    def sweeps(self) -> tuple[SweepRecord, ...]:
        """The sweeps of which a trial is known, in the order of the run."""
        searched = self.finished or self.folder.exists("networks/final")
        return sweeps_of(self.configuration, self.evaluations, self.results, searched, partial(endings, self.folder))

    @cached_property
    def rows(self) -> list[TableRow]:
        """The rows of the table; of an unfinished run those that are known, from the folds that are done."""
        if self.results is not None:
            return list(self.results["rows"])
        finals = {row: done for row in rows_of(self.configuration) if (done := self.finals(row))}
        starts: dict[Row, Result] = {
            row: start for row in finals if row is not Row.DENSE and (start := self._start(row))
        }
        known = {row: done for row, done in finals.items() if row is Row.DENSE or row in starts}
        return table(starts, known, self.evaluations, self.finalists, {})

    @property
    def search_cost(self) -> dict[str, Any]:
        """What the search of the row SAFS took, so far or in all; see :func:`results.search_cost`."""
        if self.results is not None:
            return dict(self.results["search"])
        return search_cost(self.evaluations, self.finalists)

    @cached_property
    def finalists(self) -> Finalists:
        """What is known of the finalists of each sweep."""
        if self.results is not None:
            return dict(self.results.get("finalists", {}))  # older runs have none
        return read_finalists(self.folder / "networks" / "finalists")

    @cached_property
    def start(self) -> Network | None:
        """The network that the last training of the row SAFS begins from, with its own activations."""
        own, safs = self._start(Row.PRUNED), self._start(Row.SAFS)
        if own is None or safs is None:
            return None
        default = stages.searchable(own.network, self.configuration).assignment
        return stages.searchable(safs.network, self.configuration).assign(default)

    def _start(self, row: Row) -> Result | None:
        """The network that the last training of a row begins from."""
        return self.result(start_of(self.configuration, row))

    @cached_property
    def best_network(self) -> Network | None:
        """The best network; before there is one, the network that the search starts from with the best assignment."""
        if best := self.result("best"):
            return best.network
        leaders = [sweep.best_assignment for sweep in self.sweeps if sweep.name is not Sweep.SCALES]
        if self.start is None or not leaders:
            return None
        return self.start.assign(leaders[-1])

    @cached_property
    def images(self) -> Examples | None:
        """Validation images, where there is a network to show them to and they can be read here."""
        if self.best_network is None:
            return None
        try:
            return validation_images(self.configuration)
        except ConfigurationError:
            return None


def flattened(configuration: Configuration) -> dict[str, str]:
    """Every key with its value as text."""
    return dict(_leaves(configuration.model_dump(mode="json"), ""))


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
