from __future__ import annotations

import torch

from safs_ray.pruning.scores import magnitude


def test_magnitude_is_the_absolute_value_in_the_weights_shape() -> None:
    weights = {"a": torch.tensor([[1.5, -2.0], [0.0, -0.25]]), "b": torch.tensor([[[-3.0]]])}
    scores = magnitude(weights)
    assert list(scores) == ["a", "b"]
    assert scores["a"].tolist() == [[1.5, 2.0], [0.0, 0.25]]
    assert scores["b"].tolist() == [[[3.0]]]


def test_magnitude_leaves_the_weights_alone() -> None:
    weight = torch.tensor([-1.0, 2.0])
    magnitude({"a": weight})["a"].zero_()
    assert weight.tolist() == [-1, 2]
