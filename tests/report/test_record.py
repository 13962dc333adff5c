from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from safs_ray import stages
from safs_ray.config import Configuration, ConfigurationError
from safs_ray.report.record import Record, flattened
from safs_ray.storage import Folder


def test_a_finished_run_is_read(record: Record) -> None:
    assert (record.name, record.finished, record.versions) == ("finished", True, "Python 3, torch 2")
    assert [row["name"] for row in record.rows] == ["dense", "pruned", "SAFS"]
    assert record.best_network is not None
    assert record.best_network.assignment == ("swish", "srs")
    assert record.start is not None
    assert record.start.assignment == ("relu", "relu")
    assert record.search_cost["trials"] == 3


def test_rows_of_an_unfinished_run_come_from_the_folds_that_are_done(
    variant: Callable[..., Path], record: Record
) -> None:
    without = ("results.json", "networks/best", "networks/final/SAFS/fold-1")
    part = Record.read(Folder.at(variant("part", without)))
    assert not part.finished
    rows, whole = ({row["name"]: row for row in each.rows} for each in (part, record))
    assert rows["pruned"] == whole["pruned"]
    assert rows["dense"] == whole["dense"]
    assert rows["SAFS"]["test_accuracy"]["values"] == whole["SAFS"]["test_accuracy"]["values"][:1]
    assert part.search_cost == record.search_cost


def test_what_is_found_so_far_is_the_best_assignment_on_the_pruned_weights(unfinished: Record) -> None:
    assert unfinished.rows == []
    assert unfinished.best_network is not None
    assert unfinished.start is not None
    assert unfinished.best_network.assignment == unfinished.sweeps[0].winner.best_assignment
    for name, mask in unfinished.start.masks.items():
        assert unfinished.best_network.masks[name].equal(mask)


def test_after_a_search_before_pruning_the_start_is_what_was_pruned_then(
    variant: Callable[..., Path], pruned: stages.Result
) -> None:
    path = variant("before", search={"when": "before"})
    weights = {name: 2 * weight for name, weight in pruned.network.state.items()}
    found = replace(pruned.network, state=weights).assign(("tanh", "swish"))
    replace(pruned, network=found).save(Folder.at(path / "networks/pruned-found"))
    start = Record.read(Folder.at(path)).start
    assert start is not None
    assert start.assignment == ("relu", "relu")
    assert start.state["fc1.weight"].equal(weights["fc1.weight"])


def test_trials_of_a_finished_run_are_over_whatever_was_kept(variant: Callable[..., Path]) -> None:
    record = Record.read(Folder.at(variant("light", ("networks",))))
    assert [trial.fate for trial in record.sweeps[0].trials] == ["finished", "stopped", "diverged"]


def test_a_run_of_which_only_results_were_kept(bare: Record) -> None:
    assert [row["name"] for row in bare.rows] == ["dense", "pruned", "SAFS"]
    assert bare.sweeps == ()
    assert bare.start is None
    assert bare.best_network is None
    assert bare.result("dense") is None


def test_a_folder_that_holds_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^run=.*: holds no config\.yaml; allowed: the folder of a run$"):
        Record.read(Folder.at(tmp_path))


def test_a_configuration_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("search: {stepz: 3}")
    with pytest.raises(ConfigurationError, match=r"^search\.stepz=3: unknown key"):
        Record.read(Folder.at(tmp_path))


def test_every_key_is_flattened_once() -> None:
    keys = flattened(Configuration())
    assert keys["tune.space.sgd.learning_rate"] == "[0.0001, 0.1]"
    assert keys["search.strategy"] == "lahc"
    assert keys["data.limit"] == "null"
