from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest

from safs_ray import config
from safs_ray.experiment import expectation
from safs_ray.experiment.expectation import RECORDED, SOURCE

RESULTS = Path(__file__).parents[2] / "results"
NAMES = {
    "layer": "one-shot-layer", "global": "one-shot-global", "ERK": "erk", "SynFlow": "synflow", "gradual": "gradual",
    "GSM": "gsm", "RigL": "rigl", "SWAMP": "swamp",
}  # fmt: skip


def test_recorded_expectations_are_the_means_of_the_results() -> None:
    measured: dict[tuple[str, float], list[tuple[float, float]]] = defaultdict(list)
    for cell in json.loads((RESULTS / "pruners" / "pruners.json").read_text()):
        (rate,) = [rate for rate in cell["rates"] if rate["learning_rate"] == 1e-2]
        relu, safs = rate["relu"]["test"], rate["safs"]["test"]
        measured[NAMES[cell["pruner"]], cell["sparsity"]].append((100 * relu, 100 * (safs - relu)))
    known = {(recipe, sparsity): values for recipe, each in RECORDED.items() for sparsity, values in each.items()}
    assert set(known) == set(measured)
    for key, (relu, gain) in known.items():
        relus, gains = zip(*measured[key], strict=True)
        assert relu == pytest.approx(mean(relus), abs=0.051)
        assert gain == pytest.approx(mean(gains), abs=0.051)
    place, _, anchor = SOURCE.partition("#")
    assert f"## {anchor}" in (RESULTS.parent / place).read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pruning.allocation=layer", "pruning.sparsity=0.99"],
         "LeNet-5 on MNIST at 99% by one-shot-layer: ReLU 32.2%, gain of the search 13.3 points "
         "(results/README.md#pruners)"),
        (["pruning.recipe=gsm", "pruning.sparsity=0.7"],
         "LeNet-5 on MNIST at 98% by gsm: ReLU 98.6%, gain of the search 0.0 points (results/README.md#pruners)"),
        (["pruning.recipe=auto"], ""),
        (["pruning.score=snip"], ""),
        (["pruning.structure=2:4"], ""),
        (["model.pruned=true", "model.weights=mine.pt"], ""),
    ],
)  # fmt: skip
def test_expectation_is_of_the_same_pruner_at_the_nearest_sparsity(words: list[str], told: str) -> None:
    assert expectation(config.validate(config.overridden({}, words))) == told
