from __future__ import annotations

import json
from pathlib import Path

import pytest

from safs_ray import config
from safs_ray.config import ConfigurationError
from safs_ray.report.groups import GAIN, Group, compared, grouped
from safs_ray.report.intervals import difference, paired_difference
from safs_ray.report.record import Record
from safs_ray.storage import Folder

RECORDED = Path(__file__).parents[2] / "results" / "lenet5_mnist"


def run(folder: Path, keys: dict[str, dict[str, object]], **accuracies: list[float]) -> Record:
    """A record of results alone."""
    rows = [
        {
            "name": name,
            **{key: {"mean": 0, "sd": 0, "values": values} for key in ("validation_accuracy", "test_accuracy")},
            "sparsity": 0.9, "nonzero_weights": 10, "evaluations": 0, "core_seconds": 1.0,
        }
        for name, values in accuracies.items()
    ]  # fmt: skip
    folder.mkdir()
    (folder / "config.yaml").write_text(config.dump(config.validate(keys)))
    (folder / "results.json").write_text(json.dumps({"rows": rows}))
    return Record.read(Folder.at(folder))


def seed(number: int, **keys: dict[str, object]) -> dict[str, dict[str, object]]:
    return {"run": {"seed": number, "name": f"run-{number}"}, **keys}


def test_the_recorded_runs_make_the_recorded_table() -> None:
    """The README's table: mean and sd over three seeds, and the gain."""
    records = [
        Record.read(Folder.at(RECORDED / f"{kind}-joint-seed{number}"))
        for number in (2, 0, 1)
        for kind in ("global", "layer")
    ]
    everywhere, by_layer = grouped(records)
    assert (everywhere.label, by_layer.label) == ("allocation global", "allocation layer")
    assert (everywhere.seeds, everywhere.count) == ((0, 1, 2), "3 seeds")

    def shown(group: Group) -> list[tuple[float, float]]:
        found = [group.estimate(name) for name in ("dense", "pruned", "SAFS")]
        return [(round(100 * each.mean, 1), round(100 * (each.sd or 0), 1)) for each in found if each]

    assert shown(everywhere) == [(99.1, 0.1), (83.1, 4.4), (92.0, 1.7)]
    assert shown(by_layer) == [(99.1, 0.1), (32.5, 7.6), (46.2, 4.9)]
    gains = [group.estimate(GAIN) for group in (everywhere, by_layer)]
    assert [round(100 * gain.mean, 1) for gain in gains if gain] == [8.9, 13.8]


def test_runs_that_differ_in_place_and_seed_alone_are_one_group(tmp_path: Path) -> None:
    records = [
        run(tmp_path / "first-0", seed(0)),
        run(
            tmp_path / "first-1",
            {
                "run": {"seed": 1, "storage": "elsewhere", "costs": [5, 24, 120], "events": "1.jsonl", "verbose": 0},
                "data": {"folder": "there"},
                "tune": {"resources": {"cpu": 2}},
            },
        ),
        run(tmp_path / "other", seed(0, search={"steps": 3}, dense={"epochs": 9}, final={"epochs": 9})),
    ]
    first, other = grouped(records)
    assert [record.name for record in first.records] == ["first-0", "first-1"]
    assert (first.label, other.label) == ("first", "other")  # they differ in more keys than a label holds
    assert grouped(records[:1])[0].label == "first-0"


def test_a_run_with_a_row_more_is_of_the_same_group(tmp_path: Path) -> None:
    rows: list[dict[str, list[float]]] = [{"SAFS": [0.5]}, {"SAFS": [0.7], "stage 1": [0.6]}]
    (group,) = grouped(
        [run(tmp_path / str(n), seed(n, final={"ablations": ["stage 1"] * n}), **rows[n]) for n in range(2)]
    )
    assert group.values("SAFS") == {(0,): 0.5, (1,): 0.7}
    assert group.values("stage 1") == {(1,): 0.6}


def test_groups_are_named_after_the_keys_that_differ(tmp_path: Path) -> None:
    records = [
        run(tmp_path / "a", seed(0)),
        run(tmp_path / "b", seed(0, search={"steps": 3, "strategy": "random"})),
    ]
    assert [group.label for group in grouped(records)] == ["steps 20, strategy lahc", "steps 3, strategy random"]


def test_a_run_given_twice_is_refused(tmp_path: Path) -> None:
    record = run(tmp_path / "a", seed(0))
    with pytest.raises(ConfigurationError, match=r"a: is given twice$"):
        grouped([record, record])


def test_values_are_those_of_runs_or_of_the_folds_of_one_run(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / str(number), seed(number), pruned=[0.1, 0.3], SAFS=[0.5, 0.6 + number / 10])
        for number in range(2)
    ]
    (both,) = grouped(runs)
    (alone,) = grouped(runs[:1])
    assert both.values("SAFS") == pytest.approx({(0,): 0.55, (1,): 0.6})
    assert both.values(GAIN) == pytest.approx({(0,): 0.35, (1,): 0.4})
    assert both.values("stage 1") == {}
    assert both.estimate("stage 1") is None
    assert alone.values("SAFS") == {(0, 0): 0.5, (0, 1): 0.6}
    assert alone.values(GAIN) == pytest.approx({(0, 0): 0.4, (0, 1): 0.3})
    assert (both.count, alone.count) == ("2 seeds", "1 run, 2 folds")


def test_runs_of_one_seed_count_as_one(tmp_path: Path) -> None:
    runs = [run(tmp_path / f"{n}", seed(n // 2), pruned=[0.1], SAFS=[0.3 + n / 10]) for n in range(3)]
    (group,) = grouped(runs)
    assert group.values("SAFS") == pytest.approx({(0,): 0.35, (1,): 0.5})
    assert group.count == "2 seeds in 3 runs"
    (again,) = grouped(runs[:2])
    found = again.estimate("SAFS")
    assert again.count == "1 seed in 2 runs"
    assert found is not None
    assert (found.mean, found.sd, found.low) == (pytest.approx(0.35), None, None)


def test_the_same_seeds_on_the_same_data_are_paired(tmp_path: Path) -> None:
    steps = [run(tmp_path / f"a{n}", seed(n), pruned=[0.1], SAFS=[0.5 + n / 10]) for n in range(3)]
    fewer = [run(tmp_path / f"b{n}", seed(n, search={"steps": 5}), pruned=[0.1], SAFS=[0.3 + n / 9]) for n in range(3)]
    others = [run(tmp_path / f"c{n}", seed(n, data={"limit": 500}), pruned=[0.1], SAFS=[0.2 + n / 8]) for n in range(3)]
    first, second, third = grouped([*steps, *fewer, *others])
    paired, welch = compared(second, first, "SAFS"), compared(third, first, "SAFS")
    assert paired is not None
    assert welch is not None
    assert (paired.how, welch.how) == ("paired by seed", "not paired")
    of = [list(group.values("SAFS").values()) for group in (first, second, third)]
    assert paired.estimate == paired_difference(of[1], of[0])
    assert welch.estimate == difference(of[2], of[0])
    assert compared(second, first, "stage 1") is None


def test_runs_of_other_metrics_are_named_by_them_and_not_subtracted(tmp_path: Path) -> None:
    balanced = {"data": {"metric": "balanced accuracy", "limit": 500}, "search": {"steps": 5}}
    groups = grouped([run(tmp_path / "a", seed(0), SAFS=[0.5]), run(tmp_path / "b", seed(1, **balanced), SAFS=[0.6])])
    assert [group.label for group in groups] == ["a, accuracy", "b, balanced accuracy"]
    assert compared(groups[1], groups[0], "SAFS") is None


def test_a_run_that_lacks_a_row_is_left_out_and_never_paired(tmp_path: Path) -> None:
    first = [run(tmp_path / f"a{n}", seed(n), pruned=[0.1], SAFS=[0.5]) for n in range(3)]
    rows: list[dict[str, list[float]]] = [
        {"pruned": [0.2], "SAFS": [0.7]},
        {"pruned": [0.2]},
        {"pruned": [0.2], "SAFS": [0.9]},
    ]
    second = [run(tmp_path / f"b{n}", seed(n, search={"steps": 5}), **rows[n]) for n in range(3)]
    groups = grouped([*first, *second])
    assert groups[1].values("SAFS") == {(0,): 0.7, (2,): 0.9}
    found = {name: compared(groups[1], groups[0], name) for name in ("pruned", "SAFS")}
    assert {name: each.how for name, each in found.items() if each} == {
        "pruned": "paired by seed",
        "SAFS": "not paired",
    }


def test_folds_are_paired_with_folds_and_never_with_runs(tmp_path: Path) -> None:
    runs = [run(tmp_path / f"a{n}", seed(n), pruned=[0.1, 0.1], SAFS=[0.5, 0.6]) for n in range(2)]
    single = run(tmp_path / "b", seed(0, search={"steps": 5}), pruned=[0.1, 0.1], SAFS=[0.7, 0.9])
    first, other = grouped([*runs, single])
    mixed = compared(other, first, "SAFS")
    assert mixed is not None
    assert (mixed.estimate.low, mixed.how) == (None, "runs against folds: no interval")
    lone, other = grouped([runs[0], single])
    paired = compared(other, lone, "SAFS")
    assert paired is not None
    assert (paired.how, paired.estimate.mean) == ("paired by fold", pytest.approx(0.25))
