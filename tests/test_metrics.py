"""Metrics against scikit-learn's, and their ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, r2_score
from torch import Tensor

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.metrics import METRICS, Metric, OwnMetric, metric_of


def measured(name: str, outputs: Tensor, labels: Tensor) -> float:
    """As :func:`safs_ray.accuracy.accuracies` calls it: in batches, beside another network."""
    metric: Metric = METRICS[name]
    both = torch.stack([outputs, torch.zeros_like(outputs)])
    batches = zip(both.split(7, 1), labels.split(7), strict=True)
    seen = torch.cat([metric.seen(*batch) for batch in batches], 1)
    return metric.of(seen[0], labels)


@given(count=st.integers(2, 40), outputs=st.integers(2, 5), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_metrics_are_those_of_scikit_learn(count: int, outputs: int, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    values = torch.randn(count, outputs, generator=draws).round(decimals=1)  # with ties
    classes = torch.randint(outputs, (count,), generator=draws)
    chosen = values.argmax(1).numpy()
    assert measured("accuracy", values, classes) == accuracy_score(classes, chosen)
    here = np.isin(chosen, classes.numpy())  # scikit-learn warns of predicted classes that are not there
    if here.all():
        assert measured("balanced accuracy", values, classes) == pytest.approx(balanced_accuracy_score(classes, chosen))
    targets = values + torch.randn(count, outputs, generator=draws)
    assert measured("r2", values, targets) == pytest.approx(max(0, r2_score(targets, values)), abs=1e-6)
    labels = (torch.rand(count, outputs, generator=draws) < 0.4).float()
    there = labels.sum(0) > 0
    if there.any():
        expected = average_precision_score(labels[:, there], values[:, there])
        assert measured("mean average precision", values, labels) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_outputs_that_are_not_finite_is_0(name: str) -> None:
    labels = torch.tensor([0, 0]) if "accuracy" in name else torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert measured(name, torch.full((2, 2), torch.nan), labels) == 0


def test_a_metric_of_ones_own_below_0_counts_as_0_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    labels = torch.tensor([[1.0], [2.0]])
    metric = OwnMetric("mine:lifted", lambda outputs, _: outputs.mean())
    found = [metric.of(torch.full((2, 1), value), labels) for value in (0.25, -0.25, -0.5)]
    assert found == [0.25, 0.0, 0.0]
    assert caplog.messages == ["data.metric=mine:lifted: returned what is below 0, which counts as 0"]
    with pytest.raises(ConfigurationError, match=r"returns 2 .*must return a number from 0 to 1"):
        metric.of(torch.full((2, 1), 2.0), labels)


def test_r2_of_targets_that_are_all_the_same() -> None:
    same = torch.ones(3, 1)
    assert measured("r2", same, same) == 1
    assert measured("r2", same + 0.1, same) == 0


def test_balanced_accuracy_leaves_out_classes_without_examples() -> None:
    assert measured("balanced accuracy", torch.eye(4)[[0, 0, 2]], torch.tensor([0, 2, 2])) == 0.75


def test_the_metric_of_a_run_is_that_of_its_task_or_the_one_it_names() -> None:
    assert metric_of(DataSection()) is METRICS["accuracy"]
    assert metric_of(DataSection(task="regression")) is METRICS["r2"]
    assert metric_of(DataSection(task="multilabel")) is METRICS["mean average precision"]
    assert metric_of(DataSection(metric="balanced accuracy")) is METRICS["balanced accuracy"]
    assert [DataSection(task="regression").measure, DataSection(metric="mine:half_of").measure] == ["R²", "half of"]


def test_guessing_is_what_the_outputs_that_most_want_reach_by_each_metric() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    assert METRICS["accuracy"].guessing(labels) == 0.75
    assert METRICS["balanced accuracy"].guessing(labels) == 0.5
    assert METRICS["r2"].guessing(torch.tensor([[1.0], [2.0], [3.0]])) == 0
