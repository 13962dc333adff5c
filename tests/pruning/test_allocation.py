from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.prune import l1_unstructured

from safs_ray.config import PruningSection
from safs_ray.pruning import ALLOCATIONS, SCORES, prune
from safs_ray.pruning.allocation import global_, layer

Allocation = Callable[[Mapping[str, Tensor], float], dict[str, Tensor]]

LENET5 = {
    "conv1.weight": (6, 1, 5, 5),
    "conv2.weight": (16, 6, 5, 5),
    "fc1.weight": (120, 256),
    "fc2.weight": (84, 120),
    "fc3.weight": (10, 84),
}

EITHER = pytest.mark.parametrize("allocation", [layer, global_])


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """Weights of LeNet-5's shapes; no two have the same magnitude, and layers differ in scale."""
    count = sum(torch.Size(shape).numel() for shape in LENET5.values())
    draws = torch.Generator().manual_seed(0)
    magnitudes = (torch.randperm(count, generator=draws) + 1).double()
    signs = torch.randint(2, (count,), generator=draws) * 2 - 1
    parts = torch.split(magnitudes * signs, [torch.Size(shape).numel() for shape in LENET5.values()])
    shaped = {name: part.view(LENET5[name]) for name, part in zip(LENET5, parts, strict=True)}
    return {name: weight / (index + 1) ** 0.5 for index, (name, weight) in enumerate(shaped.items())}


def test_lenet5_at_99_percent_keeps_442_weights(weights: dict[str, Tensor]) -> None:
    masks = prune(weights, 0.99, "magnitude", "layer")
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "conv1.weight": 2,
        "conv2.weight": 24,
        "fc1.weight": 307,
        "fc2.weight": 101,
        "fc3.weight": 8,
    }
    assert sum(int(mask.sum()) for mask in masks.values()) == 442
    assert {name: tuple(mask.shape) for name, mask in masks.items()} == LENET5
    assert {mask.dtype for mask in masks.values()} == {torch.bool}


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99, 0.999])
def test_layer_equals_torchs_l1_unstructured(weights: dict[str, Tensor], sparsity: float) -> None:
    masks = prune(weights, sparsity, "magnitude", "layer")
    for name, weight in weights.items():
        module: Any = nn.Module()
        module.weight = nn.Parameter(weight)
        l1_unstructured(module, "weight", amount=sparsity)  # type: ignore[no-untyped-call]
        assert torch.equal(masks[name], module.weight_mask.bool())


@pytest.mark.parametrize("sparsity", [0.5, 0.99])
def test_global_keeps_exactly_the_largest_over_all_layers(weights: dict[str, Tensor], sparsity: float) -> None:
    masks = prune(weights, sparsity, "magnitude", "global")
    magnitudes = sorted(abs(value) for weight in weights.values() for value in weight.flatten().tolist())
    kept = [abs(value) for name, mask in masks.items() for value in weights[name][mask].tolist()]
    assert sorted(kept) == magnitudes[round(sparsity * 44_190) :]
    assert {name: tuple(mask.shape) for name, mask in masks.items()} == LENET5


def test_allocations_of_a_tiny_network() -> None:
    weights = {"a": torch.tensor([[0.1, -0.4], [0.3, -0.2]]), "b": torch.tensor([5.0, -6.0, 0.05, 7.0])}
    by_layer = prune(weights, 0.5, "magnitude", "layer")
    assert by_layer["a"].tolist() == [[False, True], [True, False]]
    assert by_layer["b"].tolist() == [False, True, False, True]
    over_all = prune(weights, 0.5, "magnitude", "global")
    assert over_all["a"].tolist() == [[False, True], [False, False]]
    assert over_all["b"].tolist() == [True, True, False, True]


def test_global_may_empty_a_layer() -> None:
    masks = global_({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}, 0.5)
    assert {name: mask.tolist() for name, mask in masks.items()} == {"a": [False, False], "b": [True, True]}


def test_layer_empties_a_layer_of_which_less_than_half_a_weight_is_left() -> None:
    assert layer({"a": torch.tensor([1.0, 2.0, 3.0])}, 0.9)["a"].tolist() == [False] * 3


@EITHER
def test_the_first_among_equals_go(allocation: Allocation) -> None:
    assert allocation({"a": torch.ones(4)}, 0.5)["a"].tolist() == [False, False, True, True]
    assert allocation({"a": torch.tensor([2.0, 1.0, 2.0, 1.0])}, 0.75)["a"].tolist() == [False, False, True, False]


def test_the_first_layer_among_equals_goes_in_a_global_ranking() -> None:
    masks = global_({"b": torch.ones(2), "a": torch.ones(2)}, 0.5)
    assert {name: mask.tolist() for name, mask in masks.items()} == {"b": [False, False], "a": [True, True]}


@EITHER
def test_no_sparsity_keeps_everything(allocation: Allocation, weights: dict[str, Tensor]) -> None:
    assert all(mask.all() for mask in allocation(weights, 0.0).values())


@EITHER
def test_scores_are_left_alone(allocation: Allocation) -> None:
    scores = torch.tensor([3.0, 1.0, 2.0])
    allocation({"a": scores}, 0.5)
    assert scores.tolist() == [3, 1, 2]


layers = st.lists(
    st.lists(st.floats(0, 8, width=16) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=40), min_size=1, max_size=4
)
sparsities = st.floats(0, 1, exclude_max=True)


@settings(deadline=None, derandomize=True)
@given(layers, sparsities)
def test_layer_drops_the_exact_count_of_the_lowest_in_every_layer(values: list[list[float]], sparsity: float) -> None:
    masks = layer({str(index): torch.tensor(scores) for index, scores in enumerate(values)}, sparsity)
    for index, scores in enumerate(values):
        _assert_lowest_dropped(scores, masks[str(index)].tolist(), sparsity)


@settings(deadline=None, derandomize=True)
@given(layers, sparsities)
def test_global_drops_the_exact_count_of_the_lowest_over_all_layers(values: list[list[float]], sparsity: float) -> None:
    masks = global_({str(index): torch.tensor(scores) for index, scores in enumerate(values)}, sparsity)
    kept = [keep for index in range(len(values)) for keep in masks[str(index)].tolist()]
    _assert_lowest_dropped([score for scores in values for score in scores], kept, sparsity)


def _assert_lowest_dropped(scores: list[float], mask: list[bool], sparsity: float) -> None:
    dropped = [score for score, keep in zip(scores, mask, strict=True) if not keep]
    kept = [score for score, keep in zip(scores, mask, strict=True) if keep]
    assert len(dropped) == round(sparsity * len(scores))
    assert not dropped or not kept or max(dropped) <= min(kept)


def test_the_configuration_names_what_is_there() -> None:
    for field, table in (("score", SCORES), ("allocation", ALLOCATIONS)):
        for name in table:
            assert getattr(PruningSection.model_validate({field: name}), field) == name
