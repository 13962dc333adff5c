from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from safs_ray.experiment.results import spread
from safs_ray.report.table import show


def row(name: str, test: float, sparsity: float, sd: float | None = 0.012) -> dict[str, Any]:
    spread = {"mean": test, "sd": sd, "values": [test] * (1 if sd is None else 3)}
    return {
        "name": name,
        "validation_accuracy": spread,
        "test_accuracy": spread,
        "sparsity": sparsity,
        "nonzero_weights": 123_456_789,
        "evaluations": 1_234,
        "core_seconds": 98_765.4,
    }


RESULTS = {
    "rows": [row("dense", 0.979, 0.0, None), row("pruned", 0.5, 0.99), row("SAFS", 0.653, 0.99)],
    "assignment": {"layer1.0.relu_2": {"operator": "swish", "alpha": 1.25, "beta": -0.5}},
    "hyperparameters": {"optimizer": "adam", "learning_rate": 0.0123456, "momentum": 0.0, "batch_size": 64},
    "search": {"trials": 4, "evaluations": 90, "evaluations_saved": 7, "diverged": 1, "core_seconds": 5.0},
    "wall_seconds": 90.0,
}


def printed(width: int, **changes: Any) -> str:
    console = Console(file=io.StringIO(), width=width)
    show({**RESULTS, **changes}, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_every_number_is_whole_in_eighty_columns() -> None:
    text = printed(80)
    for part in ("97.9", "50.0 ± 1.2", "65.3 ± 1.2", "+15.3", "99.00", "123,456,789", "98,765"):
        assert part in text
    for part in ("layer1.0.relu_2", "swish", "1.250", "-0.500", "mean ± sd of 3 folds"):
        assert part in text
    assert "…" not in text


def test_a_gain_is_of_the_folds_that_both_rows_have() -> None:
    pruned, safs = row("pruned", 0.5, 0.99), row("SAFS", 0.65, 0.99)
    pruned["test_accuracy"] = {"mean": 0.5, "sd": 0.1, "values": [0.4, 0.6]}
    safs["test_accuracy"] = {"mean": 0.65, "sd": None, "values": [0.65]}
    assert "+25.0" in printed(80, rows=[pruned, safs])


@pytest.mark.parametrize(
    ("pruned", "safs", "told"),
    [
        ([0.5, 0.5, 0.5], [0.6, 0.61, 0.62], "lies in +8.5 to +13.5 points (95% interval, Student's t over the folds): "
         "the search has gained"),
        ([0.5, 0.5, 0.5], [0.4, 0.39, 0.38], "lies in −13.5 to −8.5 points (95% interval, Student's t over the folds): "
         "the search has lost"),
        ([0.5, 0.5, 0.5], [0.4, 0.6, 0.5], "it cannot be told from zero"),
        ([0.5], [0.6], "One fold does not tell how certain the gain is."),
    ],
)  # fmt: skip
def test_whether_a_gain_can_be_told_from_zero(pruned: list[float], safs: list[float], told: str) -> None:
    rows = [row("pruned", 0.5, 0.99), row("SAFS", 0.5, 0.99)]
    for each, values in zip(rows, (pruned, safs), strict=True):
        each["test_accuracy"] = spread(values)
    assert told in printed(200, rows=rows)


def test_a_table_without_a_search_says_so() -> None:
    nothing = {"trials": 0, "evaluations": 0, "evaluations_saved": 0, "diverged": 0, "core_seconds": 0.0}
    text = printed(80, rows=[row("dense", 0.979, 0.0, None), row("pruned", 0.5, 0.99)], search=nothing)
    assert "No search; 1.5 min" in text
    assert "The network: alpha g(beta x)" in text
    assert "SAFS" not in text
    assert "gain of" not in text


def test_a_search_that_found_nothing_better_is_said_to() -> None:
    finalists = {
        "SAFS": {name: {"validation_accuracy": spread([value])} for name, value in (("default", 0.5), ("trial-1", 0.5))}
    }
    text = printed(200, finalists=finalists)
    assert (
        "The search found nothing surely better than the network's own activations with the default hyperparameters"
        in text
    )
    assert "told from zero" not in text
    finalists["SAFS"]["trial-1"] = {"validation_accuracy": spread([0.75])}
    assert "nothing surely better" not in printed(200, finalists=finalists), "runs of before kept no winner"
    for name, known in finalists["SAFS"].items():
        known["won"] = name == "default"
    assert "nothing surely better" in printed(200, finalists=finalists)


def test_hyperparameters_that_had_no_effect_are_left_out() -> None:
    text = printed(80)
    assert "learning rate 0.0123" in text
    assert "momentum" not in text


def test_groups_of_channels_are_explained() -> None:
    activation = {"operator": "swish", "alpha": 1.0, "beta": 1.0}
    text = printed(80, assignment={"act1.0": activation, "act1.1": activation}, groups=2)
    assert "at every site, .0 to .1 for blocks of its channels" in text
    assert "act1.1" in text
    assert "blocks" not in printed(80)
