from __future__ import annotations

import pytest

from safs_ray.config import Configuration
from safs_ray.experiment import Row, rows_of, sparse_rows, start_of
from safs_ray.search.course import Sweep
from tests.stages.altered import changed


def test_rows_are_named_as_in_the_table() -> None:
    assert [str(row) for row in Row] == ["dense", "pruned", "stage 1", "stage 2", "SAFS"]


def test_rows_know_the_sweeps_that_lead_to_them() -> None:
    assert {row: row.sweeps for row in Row} == {
        Row.DENSE: (),
        Row.PRUNED: (),
        Row.OPERATORS: (Sweep.OPERATORS, Sweep.SAFS),
        Row.SCALES: (Sweep.SCALES,),
        Row.SAFS: (Sweep.OPERATORS, Sweep.SAFS),
    }


@pytest.mark.parametrize(
    ("ablations", "pruned", "rows"),
    [
        ((), False, ["dense", "pruned", "SAFS"]),
        (("stage 1",), False, ["dense", "pruned", "stage 1", "SAFS"]),
        (("stage 1", "stage 2"), False, ["dense", "pruned", "stage 1", "stage 2", "SAFS"]),
        (("stage 2",), True, ["pruned", "stage 2", "SAFS"]),
    ],
)
def test_rows_of_a_configuration_in_their_order(
    configuration: Configuration, ablations: tuple[str, ...], pruned: bool, rows: list[str]
) -> None:
    chosen = changed(changed(configuration, "final", ablations=ablations), "model", pruned=pruned)
    assert list(rows_of(chosen)) == rows


def test_rows_without_a_search_are_those_of_the_networks_own_operators(configuration: Configuration) -> None:
    alone = changed(configuration, "search", steps=0)
    assert list(rows_of(changed(alone, "final", ablations=("stage 1", "stage 2")))) == ["dense", "pruned"]
    assert list(rows_of(changed(alone, "model", pruned=True))) == list(sparse_rows(alone)) == ["pruned"]


@pytest.mark.parametrize("when", ["after", "during"])
def test_rows_start_from_the_pruned_network(configuration: Configuration, when: str) -> None:
    chosen = changed(configuration, "search", when=when)
    assert {start_of(chosen, row) for row in Row} == {"pruned"}


def test_rows_of_a_search_before_pruning_start_from_what_was_pruned_with_its_operators(
    configuration: Configuration,
) -> None:
    chosen = changed(configuration, "search", when="before")
    assert {row: start_of(chosen, row) for row in Row if row is not Row.DENSE} == {
        Row.PRUNED: "pruned",
        Row.OPERATORS: "pruned-found",
        Row.SCALES: "pruned",
        Row.SAFS: "pruned-found",
    }
