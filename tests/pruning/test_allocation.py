from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.prune import l1_unstructured

from safs_ray.config import PruningSection
from safs_ray.pruning.allocation import ALLOCATIONS, Allocation, erk, global_, layer
from safs_ray.pruning.scores import SCORES

LENET5 = {
    "conv1.weight": (6, 1, 5, 5),
    "conv2.weight": (16, 6, 5, 5),
    "fc1.weight": (120, 256),
    "fc2.weight": (84, 120),
    "fc3.weight": (10, 84),
}

ANY = pytest.mark.parametrize("allocation", ALLOCATIONS.values(), ids=ALLOCATIONS.keys())


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


def magnitudes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.abs() for name, weight in weights.items()}


def test_lenet5_at_99_percent_keeps_442_weights(weights: dict[str, Tensor]) -> None:
    masks = layer(magnitudes(weights), 0.99)
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
    masks = layer(magnitudes(weights), sparsity)
    for name, weight in weights.items():
        module: Any = nn.Module()
        module.weight = nn.Parameter(weight)
        l1_unstructured(module, "weight", amount=sparsity)  # type: ignore[no-untyped-call]
        assert torch.equal(masks[name], module.weight_mask.bool())


@pytest.mark.parametrize("sparsity", [0.5, 0.99])
def test_global_keeps_exactly_the_largest_over_all_layers(weights: dict[str, Tensor], sparsity: float) -> None:
    masks = global_(magnitudes(weights), sparsity)
    ascending = sorted(abs(value) for weight in weights.values() for value in weight.flatten().tolist())
    kept = [abs(value) for name, mask in masks.items() for value in weights[name][mask].tolist()]
    assert sorted(kept) == ascending[round(sparsity * 44_190) :]
    assert {name: tuple(mask.shape) for name, mask in masks.items()} == LENET5


def test_allocations_of_a_tiny_network() -> None:
    weights = {"a": torch.tensor([[0.1, -0.4], [0.3, -0.2]]), "b": torch.tensor([5.0, -6.0, 0.05, 7.0])}
    by_layer = layer(magnitudes(weights), 0.5)
    assert by_layer["a"].tolist() == [[False, True], [True, False]]
    assert by_layer["b"].tolist() == [False, True, False, True]
    over_all = global_(magnitudes(weights), 0.5)
    assert over_all["a"].tolist() == [[False, True], [False, False]]
    assert over_all["b"].tolist() == [True, True, False, True]


def test_global_may_empty_a_layer() -> None:
    masks = global_({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}, 0.5)
    assert {name: mask.tolist() for name, mask in masks.items()} == {"a": [False, False], "b": [True, True]}


def test_layer_empties_a_layer_of_which_less_than_half_a_weight_is_left() -> None:
    assert layer({"a": torch.tensor([1.0, 2.0, 3.0])}, 0.9)["a"].tolist() == [False] * 3


@ANY
def test_the_first_among_equals_go(allocation: Allocation) -> None:
    assert allocation({"a": torch.ones(4)}, 0.5)["a"].tolist() == [False, False, True, True]
    assert allocation({"a": torch.tensor([2.0, 1.0, 2.0, 1.0])}, 0.75)["a"].tolist() == [False, False, True, False]


def test_erk_keeps_in_proportion_to_the_sum_of_the_dimensions(weights: dict[str, Tensor]) -> None:
    """442 weights over 17 + 32 + 376 + 204 + 94 = 723: 10.4, 19.6, 229.9, 124.7, 57.5."""
    masks = erk(magnitudes(weights), 0.99)
    assert [int(mask.sum()) for mask in masks.values()] == [10, 20, 230, 125, 57]
    for name, mask in masks.items():
        assert weights[name][mask].abs().min() > weights[name][~mask].abs().max()


def test_erk_gives_what_full_layers_cannot_take_to_the_others(weights: dict[str, Tensor]) -> None:
    """At 90 % conv1, whose share of 4,419 would be 104, and conv2 stay below 1; at 80 % conv1 is full.

    8,838 - 150 weights are then left for 32 + 376 + 204 + 94 = 706: 393.8, 4627.0, 2510.4, 1156.8; fc3 has 840 only,
    and 7,848 are left for 612: 410.4, 4821.6, 2616.0.
    """
    counts = [int(mask.sum()) for mask in erk(magnitudes(weights), 0.8).values()]
    assert counts == [150, 410, 4822, 2616, 840]
    assert sum(counts) == 8838


def test_erk_of_two_tiny_layers_by_hand() -> None:
    """Sums of dimensions 4 and 5; the places of a layer, 1/2, 3/2 … divided by them, are one ranking.

    a: 0.125 0.375 0.625 0.875, b: 0.1 0.3 0.5 0.7 0.9 1.1. Half of ten stay: b a b a b.
    """
    scores = {"a": torch.tensor([[4.0, 1.0], [3.0, 2.0]]), "b": torch.tensor([[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]])}
    masks = erk(scores, 0.5)
    assert masks["a"].tolist() == [[True, False], [True, False]]
    assert masks["b"].tolist() == [[False, False, False], [True, True, True]]


def test_the_first_layer_among_equals_goes_in_a_global_ranking() -> None:
    masks = global_({"b": torch.ones(2), "a": torch.ones(2)}, 0.5)
    assert {name: mask.tolist() for name, mask in masks.items()} == {"b": [False, False], "a": [True, True]}


@ANY
def test_no_sparsity_keeps_everything(allocation: Allocation, weights: dict[str, Tensor]) -> None:
    assert all(mask.all() for mask in allocation(weights, 0.0).values())


@ANY
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


@settings(deadline=None, derandomize=True)
@given(layers, sparsities, sparsities)
def test_erk_is_exact_in_all_and_no_layer_grows_with_the_sparsity(
    values: list[list[float]], one: float, other: float
) -> None:
    scores = {str(index): torch.tensor(row) for index, row in enumerate(values)}
    denser, sparser = (erk(scores, sparsity) for sparsity in sorted((one, other)))
    for masks, sparsity in ((denser, min(one, other)), (sparser, max(one, other))):
        dropped = sum(int((~mask).sum()) for mask in masks.values())
        assert dropped == round(sparsity * sum(map(len, values)))
        for index, row in enumerate(values):
            kept = int(masks[str(index)].sum())
            _assert_lowest_dropped(row, masks[str(index)].tolist(), 1 - kept / len(row))
    for name in scores:
        assert not (sparser[name] & ~denser[name]).any()


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=2, max_size=5), sparsities)
def test_erk_is_within_a_weight_of_its_densities(shapes: list[tuple[int, int]], sparsity: float) -> None:
    """The common factor that fills the layers in proportion, found by bisection."""
    kept = [
        int(mask.sum())
        for mask in erk({str(i): torch.ones(shape) for i, shape in enumerate(shapes)}, sparsity).values()
    ]
    low, high = 0.0, 1000.0
    for _ in range(100):
        factor = (low + high) / 2
        filled = sum(min(n * m, factor * (n + m)) for n, m in shapes)
        low, high = (factor, high) if filled < sum(kept) else (low, factor)
    for count, (n, m) in zip(kept, shapes, strict=True):
        assert abs(count - min(n * m, high * (n + m))) <= len(shapes)


def _assert_lowest_dropped(scores: list[float], mask: list[bool], sparsity: float) -> None:
    dropped = [score for score, keep in zip(scores, mask, strict=True) if not keep]
    kept = [score for score, keep in zip(scores, mask, strict=True) if keep]
    assert len(dropped) == round(sparsity * len(scores))
    assert not dropped or not kept or max(dropped) <= min(kept)


def test_the_configuration_names_what_is_there() -> None:
    assert set(get_args(PruningSection.model_fields["allocation"].annotation)) == set(ALLOCATIONS)
    for field, table in (("score", SCORES), ("allocation", ALLOCATIONS)):
        for name in table:
            assert getattr(PruningSection.model_validate({field: name}), field) == name
