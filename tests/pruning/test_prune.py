from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, fx, nn

from safs_ray.config import PruningSection
from safs_ray.pruning import find_masks
from safs_ray.pruning.allocation import ALLOCATIONS, global_, layer
from safs_ray.pruning.coupling import coupling_of
from safs_ray.pruning.scores import SCORES, Evidence, magnitude, snip


def section(**values: object) -> PruningSection:
    return PruningSection.model_validate(values)


@pytest.fixture
def evidence() -> Evidence:
    """A narrow layer of small weights between two wide ones; 8 -> 20 -> 2 -> 20 -> 3."""
    draws = torch.Generator().manual_seed(0)
    module = nn.Sequential(
        nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 2), nn.ReLU(), nn.Linear(2, 20), nn.ReLU(), nn.Linear(20, 3)
    )
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
            if name.startswith("2."):
                parameter.mul_(1e-4)
    images = torch.randn((12, 8), generator=draws)
    return Evidence(module.eval(), images, torch.arange(12) % 3)


class Traced:
    """A module's coupling."""

    def __init__(self, evidence: Evidence) -> None:
        self.coupling = coupling_of(fx.symbolic_trace(evidence.module), evidence.images)


def found(evidence: Evidence, asked: PruningSection, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return find_masks(evidence, asked, masks, Traced(evidence))


def count(masks: dict[str, Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("allocation", ["global", "erk"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
def test_the_count_is_exact(evidence: Evidence, score: str, allocation: str, sparsity: float) -> None:
    masks = found(evidence, section(score=score, allocation=allocation, sparsity=sparsity), {})
    assert count(masks) == 300 - round(sparsity * 300)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_a_round_is_score_allocation_mask(evidence: Evidence, allocation: str) -> None:
    for score, scored in (("magnitude", magnitude), ("snip", snip)):
        masks = found(evidence, section(score=score, allocation=allocation, sparsity=0.8), {})
        expected = ALLOCATIONS[allocation](scored(evidence), 0.8)
        assert all(torch.equal(masks[name], mask) for name, mask in expected.items())


def test_synflow_empties_no_layer_where_magnitude_does(evidence: Evidence) -> None:
    """The narrow layer has no large weight; SynFlow conserves what flows through each layer (Tanaka et al. 2020)."""
    by_magnitude = found(evidence, section(score="magnitude", allocation="global", sparsity=0.9), {})
    assert int(by_magnitude["2.weight"].sum()) == 0
    for kept in (30, 8, 4):
        masks = found(evidence, section(score="synflow", allocation="global", sparsity=1 - kept / 300), {})
        assert count(masks) == kept
        assert all(mask.any() for mask in masks.values())


def test_synflow_scores_anew_after_every_round(evidence: Evidence) -> None:
    """In one round the same score would leave weights that lead nowhere."""
    masks = found(evidence, section(score="synflow", allocation="global", sparsity=0.97), {})
    at_once = global_(SCORES["synflow"](evidence), 0.97)
    assert any(not torch.equal(masks[name], at_once[name]) for name in masks)
    last, first = masks["6.weight"], masks["4.weight"]
    assert (last.any(0) == first.any(1)).all(), "each hidden neuron that is heard hears, and the reverse"


@pytest.mark.parametrize("score", SCORES)
def test_what_is_pruned_stays_so(evidence: Evidence, score: str) -> None:
    before = layer(SCORES["random"](evidence), 0.5)
    masks = found(evidence, section(score=score, allocation="global", sparsity=0.8), before)
    assert count(masks) == 60
    assert all(not (masks[name] & ~before[name]).any() for name in masks)
    again = found(evidence, section(score=score, allocation="global", sparsity=0.2), before)
    assert all(torch.equal(again[name], before[name]) for name in before), "a sparser network stays as it is"


def test_no_round_takes_more_channels_than_the_last_one(evidence: Evidence) -> None:
    """Half of the weights are left, and more of the channels: the rounds count channels, not weights."""
    few = {
        name: (torch.arange(len(weight))[:, None] + torch.arange(weight.shape[1])) % 2 == 0
        for name, weight in evidence.weights.items()
    }
    asked = section(structure="filters", score="synflow", allocation="global", sparsity=0.4)
    whole, sparse = found(evidence, asked, {}), found(evidence, asked, few)
    channels = [sum(int(mask.any(1).sum()) for mask in list(masks.values())[:-1]) for masks in (whole, sparse)]
    assert channels[0] == channels[1]


def test_the_evidence_is_left_as_it_is(evidence: Evidence) -> None:
    before = {name: tensor.clone() for name, tensor in evidence.module.state_dict().items()}
    found(evidence, section(score="synflow", sparsity=0.9), {})
    assert all(torch.equal(tensor, before[name]) for name, tensor in evidence.module.state_dict().items())


def test_channels_and_groups(evidence: Evidence) -> None:
    by_channels = found(evidence, section(structure="filters", sparsity=0.5), {})
    assert [int(mask.any(1).sum()) for mask in by_channels.values()] == [10, 1, 10, 3]
    assert [int(mask.any(0).sum()) for mask in by_channels.values()] == [8, 10, 1, 10]
    by_groups = found(evidence, section(structure="2:4", score="synflow"), {})
    assert [int(mask.sum()) for mask in by_groups.values()] == [80, 20, 40, 30]
