from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from safs_ray.config import ConfigurationError, PruningSection
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.pruning import find_masks
from safs_ray.pruning.coupling import Coupling
from safs_ray.pruning.heads import Heads
from safs_ray.pruning.scores import Evidence
from safs_ray.pruning.structure import blocks, channels, importance, n_of_m, select
from safs_ray.references import lend


def section(**values: object) -> PruningSection:
    return PruningSection.model_validate(values)


def test_two_of_four_by_hand() -> None:
    scores = torch.tensor([[1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0], [0.0, 0.0, 0.0, 1.0, 5.0, 5.0, 5.0, 5.0]])
    assert n_of_m({"a": scores}, 2, 4)["a"].int().tolist() == [[0, 1, 0, 1, 1, 1, 0, 0], [1, 0, 0, 1, 1, 1, 0, 0]]


def test_the_three_matrices_of_attention_are_layers_of_their_own() -> None:
    scores = torch.arange(1.0, 13).reshape(6, 2)  # of queries, keys and values, two rows each
    masks = select({"in_proj_weight": scores, "out_proj.weight": torch.ones(2, 2)}, 0.5, section(), {}, Whole())
    assert masks["in_proj_weight"].int().tolist() == [[0, 0], [1, 1]] * 3
    assert masks["out_proj.weight"].sum() == 2
    within = {"in_proj_weight": torch.tensor([[1, 1], [0, 1], [1, 1], [1, 1], [1, 1], [1, 1]]).bool()}
    masks = select({"in_proj_weight": scores}, 0.5, section(), within, Whole())
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


def test_blocks_by_hand() -> None:
    """Mean squares of the 2 x 2 blocks: 2.5, 25/2, the half ones at the edge 4 and 9/2, the corner 1."""
    scores = torch.tensor([[1.0, 2.0, 2.0], [1.0, 2.0, 2.0], [5.0, 0.0, 1.0]])
    asked = section(structure="blocks:2x2")
    masks = [blocks({"a": scores}, sparsity, asked, (2, 2))["a"].int().tolist() for sparsity in (0.1, 0.5, 0.8)]
    assert masks[0] == [[1, 1, 1], [1, 1, 1], [1, 1, 0]], "the corner"
    assert masks[1] == [[0, 0, 1], [0, 0, 1], [1, 1, 0]], "then the largest block"
    assert masks[2] == [[0, 0, 0], [0, 0, 0], [1, 1, 0]], "then the right edge"


def test_blocks_hold_all_places_of_their_kernels() -> None:
    scores = torch.arange(1.0, 17).reshape(2, 4, 1, 2)
    mask = blocks({"a": scores}, 0.5, section(structure="blocks:1x2"), (1, 2))["a"]
    assert mask.flatten(2).all(2).int().tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("score", "values", "kept"),
    [("taylor", [9.0, -9.0, 1.0, 1.0], [0, 0, 1, 1]), ("magnitude", [9.0, 9, 1, 1], [1, 1, 0, 0])],
)
def test_signed_scores_are_added_up_over_a_block(score: str, values: list[float], kept: list[int]) -> None:
    asked = section(structure="blocks:1x2", score=score)
    assert select({"a": torch.tensor([values])}, 0.5, asked, {}, Whole())["a"].int().tolist() == [kept]


def test_blocks_that_are_pruned_go_before_any_other() -> None:
    scores = {"a": torch.tensor([[9.0, 9.0, 1.0, 1.0, 2.0, 2.0]])}
    within = {"a": torch.tensor([[False, False, True, True, True, True]])}
    assert select(scores, 2 / 3, section(structure="blocks:1x2"), within, Whole())["a"].int().tolist() == [
        [0, 0, 0, 0, 1, 1]
    ]


@settings(deadline=None, derandomize=True)
@given(
    shapes=st.lists(st.sampled_from([(3, 5), (2, 4, 3, 3), (4, 1, 5, 5), (12, 7), (3, 16)]), min_size=1, max_size=3),
    block=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    allocation=st.sampled_from(["layer", "global", "erk"]),
    sparsity=st.floats(0, 0.99),
    equal=st.booleans(),
)
def test_blocks_are_whole_and_as_many_as_asked_for(
    shapes: list[tuple[int, ...]], block: tuple[int, int], allocation: str, sparsity: float, equal: bool
) -> None:
    draws = torch.Generator().manual_seed(0)
    scores = {
        str(place): torch.zeros(shape) if equal else torch.rand(shape, generator=draws)
        for place, shape in enumerate(shapes)
    }
    asked = section(structure=f"blocks:{block[0]}x{block[1]}", allocation=allocation, sparsity=sparsity)
    masks = blocks(scores, sparsity, asked, block)
    slack = 0.0
    for name, mask in masks.items():
        for rows in mask.split(block[0]):
            for part in rows.split(block[1], 1):
                assert part.all() or not part.any()
        largest = min(block[0], mask.shape[0]) * min(block[1], mask.shape[1]) * mask[0, 0].numel()
        slack += largest
        kept = int(mask.sum())
        assert kept, "one block of each layer stays"
        if allocation == "layer" and kept > largest:
            assert abs(kept - (mask.numel() - round(sparsity * mask.numel()))) <= largest / 2, name
    total, left = (sum(count(mask) for mask in masks.values()) for count in (Tensor.numel, torch.count_nonzero))
    assert abs(int(left) - (total - round(sparsity * total))) <= slack + len(masks)


CHAIN = Coupling(
    outputs={"a": torch.tensor([1, 2, 3]), "b": torch.tensor([4, 5]), "last": torch.tensor([0])},
    inputs={"a": torch.tensor([0, 0]), "b": torch.tensor([1, 2, 3]), "last": torch.tensor([4, 5])},
    normalisations={},
    places={"a": 100, "b": 10, "last": 1},
    sets=6,
)
"""Three channels, two, and an output."""

SCORES = {
    "a": torch.tensor([[3.0, 4.0], [4.0, 0.0], [0.0, 1.0]]),
    "b": torch.tensor([[[[2.0]], [[0.0]], [[1.0]]], [[[0.0]], [[3.0]], [[1.0]]]]),
    "last": torch.tensor([[0.5, 1.0]]),
}


class Whole:
    """A network of nothing but its coupling."""

    coupling = CHAIN
    heads = Heads((), CHAIN)


def test_importance_is_the_mean_of_what_computes_a_channel_and_what_reads_it() -> None:
    """Norms of the rows of a: 5, 4, 1; of the columns of b: 2, 3, sqrt(2)."""
    found = importance(SCORES, CHAIN, lambda rows: rows.flatten(1).norm(dim=1))
    b = (2 + 3 + 2**0.5) / 3
    assert found[1:4].tolist() == pytest.approx(
        [(5 / (10 / 3) + 2 / b) / 2, (4 / (10 / 3) + 3 / b) / 2, (1 / (10 / 3) + 2**0.5 / b) / 2]
    )


def test_importance_counts_the_scale_of_a_batch_normalisation_beside_the_layers() -> None:
    normalised = replace(CHAIN, normalisations={"norm": torch.tensor([1, 2, 3])})
    plain = importance(SCORES, CHAIN, lambda rows: rows.flatten(1).norm(dim=1))
    scales = {"norm": torch.tensor([-1.0, 0.5, 3.0])}
    found = importance(SCORES, normalised, lambda rows: rows.flatten(1).norm(dim=1), scales)
    assert found[1:4].tolist() == pytest.approx(
        [(2 * own + scale / 1.5) / 3 for own, scale in zip(plain[1:4].tolist(), [1.0, 0.5, 3.0], strict=True)]
    )
    assert found[4:].tolist() == plain[4:].tolist()


def test_magnitude_takes_the_channels_away_that_a_batch_normalisation_scales_to_nothing() -> None:
    """Weights before it say nothing: it divides by what they make of their inputs."""
    name = lend(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)),
        "scaled",
    )
    network = Network.initial(Specification(name, (1, 2, 2), 2, (0.0,), (1.0,)), seed=0)
    weight = torch.ones(4, 1, 1, 1) * torch.tensor([4.0, 3.0, 2.0, 1.0])[:, None, None, None]
    state = {"0.weight": weight, "1.weight": torch.tensor([0.0, 1.0, 0.0, 1.0]), "4.weight": torch.ones(2, 16)}
    network = replace(network, state={**network.state, **state})
    evidence = Evidence(network.build(), torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))
    kept = {
        score: find_masks(evidence, section(structure="filters", sparsity=0.5, score=score), {}, network)["0.weight"]
        for score in ("magnitude", "folded")
    }
    assert kept["magnitude"].flatten().tolist() == [False, True, False, True]
    assert kept["folded"].flatten().tolist() == [False, True, False, True]


@pytest.mark.parametrize(("width", "sparsity", "kept"), [(80, 0.5, 32), (80, 0.99, 16), (32, 0.4, 16), (31, 0.5, 16)])
def test_wide_layers_keep_whole_blocks_of_channels(width: int, sparsity: float, kept: int) -> None:
    """Of 40, 1, 19 and 16 channels."""
    wide = Coupling(
        outputs={"a": torch.arange(1, width + 1), "last": torch.tensor([0])},
        inputs={"a": torch.tensor([0]), "last": torch.arange(1, width + 1)},
        normalisations={},
        places={"a": 1, "last": 1},
        sets=width + 1,
    )
    scores = {"a": torch.arange(1.0, width + 1)[:, None], "last": torch.ones(1, width)}
    masks = channels(scores, sparsity, section(structure="filters"), wide)
    assert masks["a"].flatten().tolist() == [False] * (width - kept) + [True] * kept, "the largest"


def test_scores_below_zero_are_refused_for_channels() -> None:
    scores = {**SCORES, "a": -SCORES["a"]}
    with pytest.raises(ConfigurationError) as refused:
        select(scores, 0.5, section(structure="filters", score="own:score"), {}, Whole())
    assert str(refused.value) == (
        "pruning.score=own:score: is negative for some weights, and a channel counts by the size of its weights' "
        "scores; allowed with structure=filters: scores from 0 on"
    )


def test_signed_scores_are_added_up_over_a_channel_and_count_by_their_size_for_a_single_weight() -> None:
    scores = {**SCORES, "a": torch.tensor([[3.0, -4.0], [1.0, 1.5], [-2.0, -2.0]]), "b": torch.ones(2, 3)}
    asked = section(structure="filters", score="taylor", sparsity=1 / 3)
    assert select(scores, 1 / 3, asked, {}, Whole())["a"].tolist() == [[False, False], [True, True], [True, True]]
    single = select(scores, 1 / 2, section(score="taylor"), {}, Whole())["a"]
    assert single.tolist() == [[True, True], [False, False], [False, True]]


def test_channels_go_with_what_reads_them_and_the_outputs_stay() -> None:
    by_layer = channels(SCORES, 2 / 3, section(structure="filters"), CHAIN)
    assert by_layer["a"].tolist() == [[False, False], [True, True], [False, False]]
    assert by_layer["b"].flatten(1).tolist() == [[False, False, False], [False, True, False]]
    assert by_layer["last"].tolist() == [[False, True]]
    assert {name: mask.shape for name, mask in by_layer.items()} == {
        name: score.shape for name, score in SCORES.items()
    }
    over_all = channels(SCORES, 0.2, section(structure="filters", allocation="global"), CHAIN)
    assert over_all["a"].tolist() == [[True, True], [True, True], [False, False]]
    assert over_all["last"].all()


@pytest.mark.parametrize("allocation", ["layer", "global"])
def test_one_channel_of_each_layer_stays(allocation: str) -> None:
    masks = channels(SCORES, 0.99, section(structure="filters", allocation=allocation), CHAIN)
    assert [int(mask.any(1).sum()) for mask in masks.values()] == [1, 1, 1]


@pytest.mark.parametrize("allocation", ["layer", "global"])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.5, 0.34, 0.2])
def test_channels_go_until_a_share_of_the_multiply_adds_is_left(allocation: str, share: float) -> None:
    """Of 662 in all: 200 for each channel of a, 10 for each weight of b, 1 for each of the last."""
    asked = section(structure="filters", allocation=allocation, macs=share)
    masks = channels(SCORES, 1 - share, asked, CHAIN)
    left = CHAIN.multiply_adds(masks)
    fewest = CHAIN.multiply_adds(channels(SCORES, 0.99, section(structure="filters"), CHAIN))
    assert left <= max(share * 662, fewest)
    kept = [True, *masks["a"].any(1).tolist(), *masks["b"].flatten(1).any(1).tolist()]
    assert left == CHAIN.multiply_adds_between(torch.tensor(kept), SCORES)
    for layer in CHAIN.layers:
        for gone in layer[~torch.tensor(kept)[layer]].tolist():
            more = [stays or number == gone for number, stays in enumerate(kept)]
            assert CHAIN.multiply_adds_between(torch.tensor(more), SCORES) > share * 662, "all is used that is allowed"
    if share == 1:
        assert left == 662
    if share == 0.7:
        assert left > 0.5 * 662, "no more goes than has to"


def test_what_is_pruned_stays_so() -> None:
    scores = {"a": torch.tensor([[4.0, 3.0, 2.0, 1.0]])}
    within = {"a": torch.tensor([[False, True, True, True]])}
    assert select(scores, 0.5, section(), within, Whole())["a"].tolist() == [[False, True, True, False]]
    assert select(scores, 0.0, section(), within, Whole())["a"].tolist() == within["a"].tolist()
    assert select(scores, 0.0, section(structure="2:4"), within, Whole())["a"].tolist() == [[False, True, True, False]]


def test_a_channel_that_is_pruned_goes_before_any_other() -> None:
    scores = {**SCORES, "a": torch.tensor([[9.0, 9.0], [0.0, 0.0], [1.0, 1.0]])}
    within = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    within["a"] = torch.tensor([[False, False], [True, True], [True, False]])
    masks = select(scores, 1 / 3, section(structure="filters"), within, Whole())
    assert masks["a"].tolist() == [[False, False], [True, True], [True, False]]
    assert not masks["b"][:, 0].any()
    assert masks["last"].any()


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
    masks = select(scores, 0.5, section(**values), {}, Whole())
    assert [masks[name].int().flatten().tolist() for name in ("a", "b")] == kept
