"""Turbo-VBI: messages along chains are exact marginals, and what the posterior says decides."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.optim import SGD

from safs_ray.config import PruningSection
from safs_ray.pruning.coupling import Coupling
from safs_ray.pruning.heads import Heads
from safs_ray.pruning.turbo import TurboVBI, neighbours


class Pair:
    """Two layers of four channels and an output."""

    coupling = Coupling(
        outputs={"first": torch.arange(1, 5), "last": torch.zeros(1, dtype=torch.int64)},
        inputs={"first": torch.zeros(3, dtype=torch.int64), "last": torch.arange(1, 5)},
        normalisations={},
        places={"first": 1, "last": 1},
        sets=5,
    )
    heads = Heads((), coupling)


@pytest.mark.parametrize("density", [0.05, 0.4])
@pytest.mark.parametrize("clustered", [0.0, 0.003, 0.5])
def test_neighbours_give_the_marginals_of_the_chain(density: float, clustered: float) -> None:
    """Against the sum over all 32 supports of five places."""
    odds = 2 * torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stays = density + clustered * (1 - density)
    begins = density * (1 - stays) / (1 - density)
    moves = {(1, 1): stays, (1, 0): 1 - stays, (0, 1): begins, (0, 0): 1 - begins}
    totals = torch.zeros(2, 3, 5, dtype=torch.float64)
    for support in itertools.product((0, 1), repeat=5):
        prior = density if support[0] else 1 - density
        for pair in itertools.pairwise(support):
            prior *= moves[pair]
        likelihood = (odds * torch.tensor(support)).sum(1).exp()
        for place, active in enumerate(support):
            totals[active, :, place] += prior * likelihood
    found = neighbours(odds, density, clustered) + odds + math.log(density / (1 - density))
    torch.testing.assert_close(found, (totals[1] / totals[0]).log())


def rule(weights: dict[str, torch.Tensor], **values: object) -> TurboVBI:
    chosen = {"schedule": "turbo-vbi", "interval": 5, "until": 1.0, "sparsity": 0.5, **values}
    return TurboVBI(weights, {}, 40, PruningSection.model_validate(chosen), Pair())


def trained(weights: dict[str, torch.Tensor], **values: object) -> TurboVBI:
    made = rule(weights, **values)
    optimizer = SGD(list(weights.values()), lr=0.05)
    for _ in range(40):
        for weight in weights.values():
            weight.grad = torch.zeros_like(weight)
        made.before_step()
        made.after_step(optimizer)
    return made


def test_large_weights_stay_and_small_ones_decay_first() -> None:
    weights = {"first": torch.tensor([[1.0, 0.9, 0.01, -0.02], [0.02, -0.01, -1.1, 0.8]])}
    made = rule(weights)
    optimizer = SGD(list(weights.values()), lr=0.05)
    weights["first"].grad = torch.zeros(2, 4)
    made.before_step()
    before = weights["first"].clone()
    made.after_step(optimizer)
    left = (weights["first"] / before).flatten()
    assert left[[0, 1, 6, 7]].min() > 0.95 > 0.9 > left[[2, 3, 4, 5]].max()
    done = trained({"first": before.clone()})
    assert done.complete
    assert done.masks["first"].int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


def test_the_posterior_expects_as_many_as_shall_stay() -> None:
    draws = torch.Generator().manual_seed(0)
    weights = {"first": torch.randn(4, 3, generator=draws), "last": torch.randn(1, 4, generator=draws)}
    by_layer, over_all = (trained(dict(weights), allocation=each, sparsity=0.75) for each in ("layer", "global"))
    assert [int(mask.sum()) for mask in by_layer.masks.values()] == [3, 1]
    assert sum(int(mask.sum()) for mask in over_all.masks.values()) == 4
    active = by_layer.state_dict()["active"]
    assert active["first"].mean() == pytest.approx(0.25, abs=1e-4)


def test_weights_that_compute_a_channel_share_their_support() -> None:
    weights = {"first": torch.tensor([[1.0, 0.9, 0.8], [0.1, 0.2, 0.3], [0.2, 0.1, 0.1], [0.7, 0.9, 1.0]]),
               "last": torch.ones(1, 4)}  # fmt: skip
    made = trained(weights, structure="filters")
    active = made.state_dict()["active"]["first"]
    assert all(len(set(row.tolist())) == 1 for row in active)
    assert made.masks["first"].any(1).tolist() == [True, False, False, True]
    assert made.masks["last"].tolist() == [[True, False, False, True]]


@pytest.mark.parametrize("allocation", ["layer", "global"])
def test_weights_that_always_stay_do_not_decay(allocation: str) -> None:
    weights = {"first": torch.rand(4, 3), "last": torch.ones(1, 4), "other": torch.ones(2, 2)}
    made = trained(weights, structure="filters", sparsity=0.75, allocation=allocation)
    state = made.state_dict()
    assert (state["rates"]["last"] == 0).all()
    assert (state["active"]["other"] == 1).all()
    assert torch.equal(weights["other"], torch.ones(2, 2))
    assert state["rates"]["first"].max() > 0


def test_nothing_goes_at_a_sparsity_of_0() -> None:
    weights = {"first": torch.tensor([[1.0, 0.5, 0.0]])}
    made = trained(weights, sparsity=0.0)
    assert made.masks["first"].all()
    assert weights["first"].tolist() == [[1.0, 0.5, 0.0]]
