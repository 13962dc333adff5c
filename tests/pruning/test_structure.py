from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safs_ray.config import PruningSection
from safs_ray.pruning.allocation import global_, layer
from safs_ray.pruning.structure import filters, n_of_m, select


def section(**values: object) -> PruningSection:
    return PruningSection.model_validate(values)


def test_two_of_four_by_hand() -> None:
    scores = torch.tensor([[1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0], [0.0, 0.0, 0.0, 1.0, 5.0, 5.0, 5.0, 5.0]])
    assert n_of_m({"a": scores}, 2, 4)["a"].int().tolist() == [[0, 1, 0, 1, 1, 1, 0, 0], [1, 0, 0, 1, 1, 1, 0, 0]]


def test_the_three_matrices_of_attention_are_layers_of_their_own() -> None:
    scores = torch.arange(1.0, 13).reshape(6, 2)  # of queries, keys and values, two rows each
    masks = select({"in_proj_weight": scores, "out_proj.weight": torch.ones(2, 2)}, 0.5, section(), {})
    assert masks["in_proj_weight"].int().tolist() == [[0, 0], [1, 1]] * 3
    assert masks["out_proj.weight"].sum() == 2
    within = {"in_proj_weight": torch.tensor([[1, 1], [0, 1], [1, 1], [1, 1], [1, 1], [1, 1]]).bool()}
    masks = select({"in_proj_weight": scores}, 0.5, section(), within)
    assert masks["in_proj_weight"].int().tolist() == [[0, 1], [0, 1], *[[0, 0], [1, 1]] * 2]


def test_groups_run_along_the_input_channels() -> None:
    """A filter of two channels and 1x2 pixels is read as (pixel 0: c0, c1), (pixel 1: c0, c1)."""
    scores = torch.tensor([[[[1.0, 9.0]], [[2.0, 8.0]]]])  # (out 1, in 2, 1, 2)
    assert n_of_m({"a": scores}, 1, 2)["a"].int().tolist() == [[[[0, 1]], [[1, 0]]]]


def test_a_short_last_group_keeps_its_n_best() -> None:
    mask = n_of_m({"a": torch.tensor([[1.0, 2.0, 3.0, 4.0, 1.0], [4.0, 3.0, 2.0, 1.0, 7.0]])}, 2, 4)["a"]
    assert mask.int().tolist() == [[0, 0, 1, 1, 1], [1, 1, 0, 0, 1]]


@settings(deadline=None, derandomize=True)
@given(
    st.sampled_from([(3, 5), (2, 4, 3, 3), (4, 1, 5, 5), (2, 7, 1), (3, 16)]),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_every_group_holds_n_or_all_it_has(shape: tuple[int, ...], n: int, more: int, seed: int) -> None:
    m = n + more
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    mask = n_of_m({"a": scores}, n, m)["a"]
    assert mask.shape == scores.shape
    for kept, values in zip(mask.movedim(1, -1).flatten(1), scores.movedim(1, -1).flatten(1), strict=True):
        for group, ranked in zip(kept.split(m), values.split(m), strict=True):
            assert int(group.sum()) == min(n, len(group))
            assert group.all() or ranked[group].min() >= ranked[~group].max()


def test_filters_go_whole_by_the_norm_of_their_scores_and_the_last_layer_stays() -> None:
    """Norms of the rows of a: 5, 4, 1; of b: 2, 3."""
    scores = {
        "a": torch.tensor([[3.0, 4.0], [4.0, 0.0], [0.0, 1.0]]),
        "b": torch.tensor([[[[2.0]], [[0.0]]], [[[0.0]], [[3.0]]]]),
        "last": torch.tensor([[0.0, 0.0]]),
    }
    by_layer = filters(scores, 2 / 3, layer)
    assert by_layer["a"].tolist() == [[True, True], [False, False], [False, False]]
    assert by_layer["b"].flatten().tolist() == [False, False, True, True]
    over_all = filters(scores, 0.4, global_)
    assert over_all["a"].tolist() == [[True, True], [True, True], [False, False]]
    assert over_all["b"].flatten().tolist() == [False, False, True, True]
    assert over_all["last"].tolist() == [[True, True]]
    assert {name: mask.shape for name, mask in over_all.items()} == {
        name: score.shape for name, score in scores.items()
    }


def test_a_single_layer_computes_the_outputs_and_stays() -> None:
    assert filters({"a": torch.ones(2, 2)}, 0.5, layer)["a"].all()


def test_what_is_pruned_stays_so() -> None:
    scores = {"a": torch.tensor([[4.0, 3.0, 2.0, 1.0]])}
    within = {"a": torch.tensor([[False, True, True, True]])}
    assert select(scores, 0.5, section(), within)["a"].tolist() == [[False, True, True, False]]
    assert select(scores, 0.0, section(), within)["a"].tolist() == within["a"].tolist()
    assert select(scores, 0.0, section(structure="2:4"), within)["a"].tolist() == [[False, True, True, False]]


def test_a_filter_that_is_pruned_goes_before_any_other() -> None:
    scores = {"a": torch.tensor([[9.0, 9.0], [0.0, 0.0], [1.0, 1.0]]), "last": torch.ones(1, 3)}
    within = {"a": torch.tensor([[False, False], [True, True], [True, False]]), "last": torch.ones(1, 3).bool()}
    masks = select(scores, 1 / 3, section(structure="filters"), within)
    assert masks["a"].tolist() == [[False, False], [True, True], [True, False]]
    assert masks["last"].all()


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({}, [[0, 0, 1, 1], [0, 0, 1, 1]]),
        ({"allocation": "global"}, [[0, 0, 0, 0], [1, 1, 1, 1]]),
        ({"structure": "1:2"}, [[0, 1, 0, 1], [0, 1, 0, 1]]),
    ],
)
def test_the_section_chooses(values: dict[str, object], kept: list[list[int]]) -> None:
    scores = {"a": torch.tensor([[1.0, 2.0, 3.0, 4.0]]), "b": torch.tensor([[5.0, 6.0, 7.0, 8.0]])}
    masks = select(scores, 0.5, section(**values), {})
    assert [masks[name].int().flatten().tolist() for name in ("a", "b")] == kept
