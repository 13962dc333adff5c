"""The rows of the table."""

from __future__ import annotations

from enum import StrEnum

from safs_ray.config import Configuration
from safs_ray.experiment.stage import PRUNED, PRUNED_AGAIN
from safs_ray.search.course import Sweep


class Row(StrEnum):
    """A row of the table.

    Attributes:
        DENSE: the dense network.
        PRUNED: its own operators, the default hyperparameters, no scales.
        OPERATORS: the operators that were found, the default hyperparameters, no scales.
        SCALES: its own operators, searched hyperparameters, learned scales.
        SAFS: the operators that were found, searched hyperparameters, learned scales.
    """

    DENSE = "dense"
    PRUNED = "pruned"
    OPERATORS = "stage 1"
    SCALES = "stage 2"
    SAFS = "SAFS"

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        """The sweeps without which the row would not be known."""
        known = {Row.OPERATORS: (Sweep.OPERATORS, Sweep.SAFS), Row.SCALES: (Sweep.SCALES,)}
        return (Sweep.OPERATORS, Sweep.SAFS) if self is Row.SAFS else known.get(self, ())


def rows_of(configuration: Configuration) -> tuple[Row, ...]:
    """The rows that a table has, in their order; the last is the network to deploy."""
    dense = () if configuration.model.pruned else (Row.DENSE,)
    searched = (*map(Row, configuration.final.ablations), Row.SAFS) if configuration.search.steps else ()
    return (*dense, Row.PRUNED, *searched)


def sparse_rows(configuration: Configuration) -> tuple[Row, ...]:
    """The rows that are trained on each fold: all but that of the dense network."""
    return tuple(row for row in rows_of(configuration) if row is not Row.DENSE)


def start_of(configuration: Configuration, row: Row) -> str:
    """The name of the result whose network the last training of a row begins from."""
    pruned_with_operators = row in (Row.OPERATORS, Row.SAFS) and configuration.search.when == "before"
    return PRUNED_AGAIN if pruned_with_operators else PRUNED
