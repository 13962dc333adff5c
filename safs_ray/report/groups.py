"""Runs that are compared: those that differ in nothing but their seed are one group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import mean

from safs_ray.config import counted, refusal
from safs_ray.experiment import Row
from safs_ray.experiment.results import TableRow
from safs_ray.report.intervals import Estimate, difference, estimate, paired_difference
from safs_ray.report.record import Record, flattened

GAIN = "gain"
"""Name of the difference of SAFS and pruned, beside the names of rows."""

PLACES = (
    "run.name", "run.storage", "run.address", "run.costs", "run.events", "run.verbose", "run.checkpoint_seconds",
    "tune.resources.cpu", "tune.resources.gpu", "data.folder", "final.ablations",
)  # fmt: skip
"""Keys that say where a run was, on which machine, what was told of it, and which rows it made beside the others: not
what it was."""

MOST_KEYS = 2
"""Keys in which groups may differ and still be named after them."""


@dataclass(frozen=True)
class Group:
    """Runs of one configuration.

    Attributes:
        label: what tells it from the other groups.
        records: in the order of their seeds.
    """

    label: str
    records: tuple[Record, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(record.configuration.run.seed for record in self.records)

    @property
    def unit(self) -> str:
        """What :meth:`values` are values of: "runs", by seed, where there are several, else the "folds" of the one."""
        return "runs" if len(self.records) > 1 else "folds"

    @property
    def count(self) -> str:
        """How many values stand behind a mean."""
        if self.unit == "runs":
            missing = sum(not record.finished for record in self.records)
            unfinished = f", {missing} unfinished" if missing else ""
            seeds, runs = len(set(self.seeds)), len(self.records)
            repeated = f" in {runs} runs" if runs > seeds else ""
            return f"{counted(seeds, 'seed')}{repeated}{unfinished}"
        folds = max((len(row["test_accuracy"]["values"]) for row in self.records[0].rows), default=0)
        return f"1 run, {counted(folds, 'fold')}"

    def values(self, name: str) -> dict[tuple[int, ...], float]:
        """Test accuracies in [0, 1] of a row, or its gains.

        Of several runs it is the mean of each seed, by the seed: runs of one seed are no independent ones. Of a single
        run it is its folds, by the seed and the number of the fold.
        """
        if self.unit == "folds":
            return {(self.seeds[0], fold): value for fold, value in enumerate(_folds(self.records[0], name))}
        runs: dict[tuple[int, ...], list[float]] = {}
        for seed, record in zip(self.seeds, self.records, strict=True):
            if folds := _folds(record, name):
                runs.setdefault((seed,), []).append(mean(folds))
        return {key: mean(means) for key, means in runs.items()}

    def estimate(self, name: str) -> Estimate | None:
        """Mean, spread and interval of :meth:`values`; None where there are none."""
        values = self.values(name)
        return estimate(list(values.values())) if values else None


def _folds(record: Record, name: str) -> list[float]:
    """Test accuracies of a row on the folds, or the differences of SAFS and pruned."""
    rows: Mapping[str, TableRow] = {row["name"]: row for row in record.rows}
    if name == GAIN:
        if not {Row.SAFS, Row.PRUNED} <= set(rows):
            return []
        safs, pruned = (rows[each]["test_accuracy"]["values"] for each in (Row.SAFS, Row.PRUNED))
        return [value - other for value, other in zip(safs, pruned, strict=False)]
    return list(rows[name]["test_accuracy"]["values"]) if name in rows else []


def measure_of(groups: Sequence[Group]) -> str:
    """What the metric of all runs is called."""
    measures = {record.measure for group in groups for record in group.records}
    return measures.pop() if len(measures) == 1 else "score"


def gain(row: TableRow, pruned: TableRow) -> Estimate:
    """How much better a row of a run is, over the folds that both have: of an unfinished run not all are there."""
    pairs = zip(row["test_accuracy"]["values"], pruned["test_accuracy"]["values"], strict=False)
    values, others = zip(*pairs, strict=True)
    return paired_difference(values, others)


def grouped(records: Sequence[Record]) -> tuple[Group, ...]:
    """The groups, in the order of their first runs.

    Raises:
        ConfigurationError: a run is given twice.
    """
    for index, record in enumerate(records):
        if record.folder in [other.folder for other in records[:index]]:
            raise refusal("run", str(record.folder), "is given twice")
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(repr(identity(record)), []).append(record)
    members = [sorted(group, key=lambda record: record.configuration.run.seed) for group in groups.values()]
    return tuple(Group(label, tuple(group)) for label, group in zip(_labels(members), members, strict=True))


def identity(record: Record) -> dict[str, str]:
    """All that makes a run what it is, but for its seed."""
    keys = flattened(record.configuration)
    return {key: value for key, value in keys.items() if key not in (*PLACES, "run.seed")}


def differing(records: Sequence[Record]) -> list[str]:
    """The keys in which runs differ, but for the seed."""
    identities = [identity(record) for record in records]
    return [key for key in identities[0] if len({each[key] for each in identities}) > 1]


def _labels(members: Sequence[Sequence[Record]]) -> list[str]:
    """What tells groups apart: the keys in which they differ where those are few, else the names of their runs."""
    firsts = [group[0] for group in members]
    keys = differing(firsts)
    if 0 < len(keys) <= MOST_KEYS:
        return [", ".join(f"{key.rpartition('.')[2]} {identity(first)[key]}" for key in keys) for first in firsts]
    names = [_name([record.name for record in group]) for group in members]
    if len({first.measure for first in firsts}) > 1:
        names = [f"{name}, {first.measure}" for name, first in zip(names, firsts, strict=True)]
    return [name if names.count(name) == 1 else f"{name} ({index + 1})" for index, name in enumerate(names)]


def _name(names: Sequence[str]) -> str:
    """The name of one run, or what the names of several begin with."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = "".join(letters[0] for letters in alike)
    return names[0] if len(names) == 1 else common.rstrip("-_.0123456789") or names[0]


@dataclass(frozen=True)
class Difference:
    """How much better one group is than another.

    Attributes:
        how: what the interval rests on.
    """

    estimate: Estimate
    how: str


def compared(group: Group, reference: Group, name: str) -> Difference | None:
    """The difference of a row, or of the gain, in fractions; None where one has no such row, or another metric."""
    if group.records[0].measure != reference.records[0].measure:
        return None
    mine, theirs = group.values(name), reference.values(name)
    if not mine or not theirs:
        return None
    values, others = list(mine.values()), list(theirs.values())
    if group.unit != reference.unit:
        return Difference(Estimate(mean(values) - mean(others), None, None, None), "runs against folds: no interval")
    if _share_images(group, reference) and list(mine) == list(theirs):
        pair = "seed" if group.unit == "runs" else "fold"
        return Difference(paired_difference(values, others), f"paired by {pair}")
    return Difference(difference(values, others), "not paired")


def grounds(differences: Sequence[Difference | None]) -> str:
    """What the differences of a group rest on, or why there are none."""
    return next((each.how for each in differences if each), "not compared: another metric, or no row in common")


def _share_images(group: Group, other: Group) -> bool:
    """Whether runs of the same seed have the same data in the same order in both."""
    keys = [each.records[0].configuration for each in (group, other)]
    data, others = ({**each.data.model_dump(), "folder": None, "folds": each.final.folds} for each in keys)
    return data == others
