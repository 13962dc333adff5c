from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from safs_ray.config import PruningSection
from safs_ray.pruning.changing import DROPPED, RULES, GradientSelection, GradualMasks, RigL
from safs_ray.pruning.coupling import Coupling
from safs_ray.pruning.envelope import SparseEnvelope, shares
from safs_ray.pruning.rules import FixedMasks, MaskRule


class Unasked:
    """A network whose channels no rule of single weights asks for."""

    @property
    def coupling(self) -> Coupling:
        raise AssertionError


def section(**values: object) -> PruningSection:
    """A section; of the schedule gsm with the optimizer that it needs."""
    sgd = {"hyperparameters": {"optimizer": "sgd", "weight_decay": 0.1}}
    return PruningSection.model_validate({**(sgd if values.get("schedule") == "gsm" else {}), **values})


def weights(*values: Sequence[float]) -> dict[str, Tensor]:
    """Layers a, b … of one row each."""
    return {name: nn.Parameter(torch.tensor([row])) for name, row in zip("abc", values, strict=False)}


def step(rule: MaskRule, optimizer: Optimizer, layers: dict[str, Tensor], *gradients: Sequence[float]) -> None:
    """One step of a training with these gradients; zeros when none are given."""
    for index, weight in enumerate(layers.values()):
        weight.grad = torch.tensor([gradients[index]]) if gradients else torch.zeros_like(weight)
    rule.before_step()
    optimizer.step()
    rule.after_step(optimizer)


def values(layers: dict[str, Tensor]) -> list[list[float]]:
    return [[round(value, 6) for value in weight.flatten().tolist()] for weight in layers.values()]


def kept(rule: MaskRule) -> int:
    return sum(int(mask.sum()) for mask in rule.masks.values())


def test_fixed_masks_hold_zeros_against_momentum_and_decay() -> None:
    layers = weights([1.0, 2.0])
    rule = FixedMasks(layers, {"a": torch.tensor([[True, False]])}, steps=3)
    optimizer = SGD(layers.values(), lr=0.5, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        step(rule, optimizer, layers, [1.0, 1.0])
        assert layers["a"][0, 1] == 0
    assert rule.complete
    assert rule.masks["a"].tolist() == [[True, False]]


def test_a_dense_network_has_no_masks_that_are_fixed() -> None:
    layers = weights([1.0, 2.0])
    rule = FixedMasks(layers, {}, steps=3)
    step(rule, SGD(layers.values(), lr=1.0), layers, [1.0, 0.0])
    assert values(layers) == [[0, 2]]
    assert rule.masks == {}


def test_gradual_follows_the_cube_by_hand() -> None:
    """10 weights, S = 0.8, 4 of 5 steps: 0.8 (1 - (1 - t)^3) = 0.4625, 0.7, 0.7875, 0.8, times 10 rounded."""
    layers = weights([1.0, 10.0, 2.0, 9.0, 3.0, 8.0], [4.0, 7.0, 5.0, 6.0])
    rule = GradualMasks(
        layers, {}, 5, section(schedule="gradual", allocation="global", sparsity=0.8, interval=1, until=0.8), Unasked()
    )
    optimizer = SGD(layers.values(), lr=0.0)
    assert kept(rule) == 10
    assert not rule.complete
    for left, complete in ((5, False), (3, False), (2, False), (2, True), (2, True)):
        step(rule, optimizer, layers)
        assert kept(rule) == left
        assert rule.complete == complete
    assert values(layers) == [[0, 10, 0, 9, 0, 0], [0, 0, 0, 0]]


def test_gradual_changes_at_its_interval_and_at_its_end() -> None:
    layers = weights([float(value) for value in range(1, 101)])
    rule = GradualMasks(layers, {}, 10, section(schedule="gradual", sparsity=0.9, interval=4, until=1.0), Unasked())
    counts = []
    for _ in range(10):
        step(rule, SGD(layers.values(), lr=0.0), layers)
        counts.append(kept(rule))
    at = [round(100 - 90 * (1 - (1 - done / 10) ** 3)) for done in (4, 8, 10)]
    assert counts == [100] * 3 + at[:1] * 4 + at[1:2] * 2 + at[2:]


def test_gradual_begins_at_the_sparsity_that_is_there() -> None:
    """Half of 8 are gone: 0.75 + (0.5 - 0.75) (1 - t)^3 = 0.71875 at half time."""
    layers = weights([1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0])
    masks = {"a": torch.tensor([[True] * 4 + [False] * 4])}
    rule = GradualMasks(layers, masks, 2, section(schedule="gradual", sparsity=0.75, interval=1, until=1.0), Unasked())
    step(rule, SGD(layers.values(), lr=0.0), layers)
    assert values(layers) == [[0, 0, 3, 4, 0, 0, 0, 0]]
    assert kept(rule) == 2


def test_gsm_moves_the_weights_of_the_highest_product_and_lets_the_others_decay() -> None:
    """|w g| = 2, 3 | 1, 4: with two to be left of all four, the second of each layer keep their gradients."""
    layers = weights([2.0, 1.0], [1.0, 2.0])
    rule = GradientSelection(
        layers, {}, 4, section(schedule="gsm", allocation="global", sparsity=0.5, until=0.5), Unasked()
    )
    optimizer = SGD(layers.values(), lr=0.1, weight_decay=0.1)
    step(rule, optimizer, layers, [1.0, -3.0], [-1.0, 2.0])
    assert values(layers) == [[2 * 0.99, 1 * 0.99 + 0.3], [1 * 0.99, 2 * 0.99 - 0.2]]
    assert not rule.complete
    assert kept(rule) == 4


def test_gsm_ends_with_the_largest_weights_and_then_trains_them_all() -> None:
    layers = weights([2.0, 1.0], [1.5, 3.0])
    rule = GradientSelection(
        layers, {}, 2, section(schedule="gsm", allocation="global", sparsity=0.5, until=0.5), Unasked()
    )
    optimizer = SGD(layers.values(), lr=0.1)
    step(rule, optimizer, layers)
    assert rule.complete
    assert values(layers) == [[2, 0], [0, 3]]
    step(rule, optimizer, layers, [1.0, 1.0], [1.0, 1.0])
    assert values(layers) == [[1.9, 0], [0, 2.9]]


def test_gsm_selects_within_layers_where_the_allocation_says_so() -> None:
    layers = weights([1.0, 2.0], [10.0, 20.0])
    rule = GradientSelection(layers, {}, 9, section(schedule="gsm", allocation="layer", sparsity=0.5), Unasked())
    step(rule, SGD(layers.values(), lr=1.0), layers, [0.5, 0.5], [0.5, 0.5])
    assert values(layers) == [[1, 1.5], [10, 19.5]]


@pytest.mark.parametrize("schedule", ["gradual", "rigl"])
def test_the_optimizer_sees_no_gradient_of_what_is_dropped(schedule: str) -> None:
    """Fromage's step would be as short as the norm of all gradients is long."""
    layers = weights([1.0, 2.0, 3.0, 4.0])
    mask = torch.tensor([[True, False, True, False]])
    rule = RULES[schedule](
        layers, {"a": mask}, 9, section(schedule=schedule, interval=2, sparsity=0.5, until=1.0), Unasked()
    )
    for _ in range(3):
        layers["a"].grad = torch.tensor([[1.0, 1.0, 1.0, 9.0]])
        rule.before_step()
        assert torch.equal(layers["a"].grad, rule.masks["a"].float() * torch.tensor([[1.0, 1.0, 1.0, 9.0]]))
        rule.after_step(SGD(layers.values(), lr=0.0))
    assert rule.masks["a"][0, 3] == (schedule == "rigl"), "the largest of all gradients grows"


def test_rigl_by_hand() -> None:
    """At step 2 of 4 the fraction is 0.3 / 2 (1 + cos(pi / 2)) = 0.15: of 10 weights round(1.5) = 2 are exchanged.

    The smallest of those that are left, 0.1 and 0.2, go; the largest gradients among the others, 9 and 8, come.
    """
    layers = weights([0.1, 0.2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 0, 0])
    masks = {"a": torch.tensor([[True] * 10 + [False] * 4])}
    rule = RigL(layers, masks, 4, section(schedule="rigl", interval=2, until=1.0), Unasked())
    optimizer = SGD(layers.values(), lr=0.0)
    gradients = [0.5, 0.0, *[99.0] * 8, 1.0, 9.0, -8.0, 2.0]
    step(rule, optimizer, layers, gradients)
    assert torch.equal(rule.masks["a"], masks["a"])
    step(rule, optimizer, layers, gradients)
    assert rule.masks["a"].int().tolist() == [[0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0]]
    assert values(layers) == [[0, 0, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 0, 0]]
    step(rule, SGD(layers.values(), lr=0.01), layers, gradients)
    assert values(layers)[0][10:] == [0, -0.09, 0.08, 0], "grown weights train, dropped ones do not"
    assert rule.complete


def test_what_rigl_drops_may_grow_again_at_once_and_keeps_its_value() -> None:
    layers = weights([0.1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0])
    masks = {"a": torch.tensor([[True] * 10 + [False]])}
    rule = RigL(layers, masks, 3, section(schedule="rigl", interval=2, until=1.0), Unasked())
    for _ in range(2):
        step(rule, SGD(layers.values(), lr=0.0), layers, [5.0, *[0.0] * 10])
    assert torch.equal(rule.masks["a"], masks["a"])
    assert values(layers)[0][0] == 0.1


def test_rigl_exchanges_less_and_less_and_stops() -> None:
    draws = torch.Generator().manual_seed(0)
    layers = {"a": nn.Parameter(torch.randn(40, 50, generator=draws))}
    mask = torch.rand(40, 50, generator=draws) < 0.25
    layers["a"].data[~mask] = 0
    before, total = mask, int(mask.sum())
    rule = RigL(layers, {"a": mask}, 40, section(schedule="rigl", interval=5, until=0.75), Unasked())
    exchanged = []
    for done in range(1, 41):
        layers["a"].grad = torch.randn(40, 50, generator=draws)
        rule.before_step()
        rule.after_step(SGD(layers.values(), lr=0.0))
        assert kept(rule) == total
        if done % 5 == 0:
            exchanged.append(int((rule.masks["a"] & ~before).sum()))
            before = rule.masks["a"]
    assert exchanged[5:] == [0, 0, 0], "the mask stays from step 30 on"
    assert exchanged[:5] == sorted(exchanged[:5], reverse=True)
    most = [round(DROPPED / 2 * (1 + math.cos(math.pi * done / 30)) * total) for done in (5, 10, 15, 20, 25)]
    assert all(0.5 * bound < count <= bound for count, bound in zip(exchanged, most, strict=False))


@pytest.mark.parametrize(
    "make",
    [
        lambda layers: SGD(layers, lr=0.1, momentum=0.9),
        lambda layers: Adam(layers, lr=0.1, amsgrad=True),
        lambda layers: AdamW(layers, lr=0.1),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_what_rigl_grows_has_no_momentum(make: Callable[..., Optimizer]) -> None:
    """Of three weights that are left, one is exchanged for the last."""
    layers = weights([0.1, 50.0, 60.0, 70.0, 80.0, 0.0])
    masks = {"a": torch.tensor([[True] * 5 + [False]])}
    rule = RigL(layers, masks, 9, section(schedule="rigl", interval=3, until=1.0), Unasked())
    optimizer = make(layers.values())
    for _ in range(3):
        step(rule, optimizer, layers, [0.0, 1.0, 1.0, 1.0, 1.0, 2.0])
    assert rule.masks["a"].tolist() == [[False, True, True, True, True, True]]
    assert layers["a"][0, 5] == 0
    remembered = [value for value in optimizer.state[layers["a"]].values() if value.shape == (1, 6)]
    assert remembered
    assert all(value[0, 5] == 0 and value[0, 1] != 0 for value in remembered)


EVERY = pytest.mark.parametrize("schedule", RULES)


def trained(schedule: str, stops: int | None = None) -> tuple[list[float], Tensor]:
    """A small regression under a rule; saved and loaded into new objects after ``stops`` steps."""
    draws = torch.Generator().manual_seed(1)
    data, goal, start = (torch.randn(shape, generator=draws) for shape in ((64, 12), (64, 3), (3, 12)))
    chosen = section(schedule=schedule, sparsity=0.75, interval=2, until=0.6)
    layers = {"a": nn.Parameter(start.clone())}
    masks = {}
    if schedule == "rigl":
        masks = {"a": start.abs() > start.abs().flatten().sort().values[26]}
        layers["a"].data[~masks["a"]] = 0
    rule, optimizer = RULES[schedule](layers, masks, 30, chosen, Unasked()), SGD(layers.values(), lr=0.05, momentum=0.9)
    for done in range(30):
        if done == stops:
            file = io.BytesIO()
            torch.save([layers["a"].data, rule.state_dict(), optimizer.state_dict()], file)
            file.seek(0)
            saved, state, memory = torch.load(file, weights_only=True)
            layers = {"a": nn.Parameter(saved)}
            rule, optimizer = (
                RULES[schedule](layers, masks, 30, chosen, Unasked()),
                SGD(layers.values(), lr=0.05, momentum=0.9),
            )
            rule.load_state_dict(state)
            optimizer.load_state_dict(memory)
        optimizer.zero_grad()
        ((data @ layers["a"].T - goal) ** 2).mean().backward()
        rule.before_step()
        optimizer.step()
        rule.after_step(optimizer)
    assert rule.complete
    return layers["a"].flatten().tolist(), rule.masks["a"]


@EVERY
@pytest.mark.parametrize("stops", [0, 1, 7, 18, 29])
def test_resuming_in_the_middle_equals_an_uninterrupted_training(schedule: str, stops: int) -> None:
    (expected, mask), (resumed, again) = trained(schedule), trained(schedule, stops)
    assert resumed == expected
    assert torch.equal(again, mask)
    assert int(mask.sum()) == 9


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    st.sampled_from(["gradual", "gsm", "rigl"]),
    st.sampled_from(["layer", "global", "erk"]),
    st.floats(0.1, 0.95),
    st.integers(1, 9),
    st.floats(0.1, 1),
    st.integers(0, 99),
)
def test_whatever_the_section_zeros_are_zeros_and_counts_are_exact(
    schedule: str, allocation: str, sparsity: float, interval: int, until: float, seed: int
) -> None:
    """A weight never comes back, but where RigL grows it, which begins at zero."""
    draws = torch.Generator().manual_seed(seed)
    layers = {name: nn.Parameter(torch.randn(shape, generator=draws)) for name, shape in (("a", (4, 9)), ("b", (3, 4)))}
    chosen = section(schedule=schedule, allocation=allocation, sparsity=sparsity, interval=interval, until=until)
    begun = {name: torch.rand(weight.shape, generator=draws) < 0.7 for name, weight in layers.items()}
    rule = RULES[schedule](layers, begun if schedule == "rigl" else {}, 20, chosen, Unasked())
    optimizer = Adam(layers.values(), lr=0.1, weight_decay=0.01)
    for _ in range(20):
        before = rule.masks
        for weight in layers.values():
            weight.grad = torch.randn(weight.shape, generator=draws)
        rule.before_step()
        optimizer.step()
        rule.after_step(optimizer)
        for name, mask in rule.masks.items():
            assert (layers[name][~mask] == 0).all()
            grown = mask & ~before[name]
            assert (layers[name][grown] == 0).all() if schedule == "rigl" else not grown.any()
    if schedule == "rigl":
        assert {name: int(mask.sum()) for name, mask in rule.masks.items()} == {
            name: int(mask.sum()) for name, mask in begun.items()
        }
    else:
        parts = [36, 12] if allocation == "layer" else [48]
        assert kept(rule) == sum(size - round(sparsity * size) for size in parts)


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([0.0, 1e-6, 0.1, 0.5, 1.0, 1.0, 3.0, 100.0]), min_size=2, max_size=9),
    st.sampled_from([0.2, 0.5, 0.9]),
    st.sampled_from([1e-4, 0.1, 2.0]),
    st.integers(0, 9),
)
def test_shares_are_those_that_minimise_the_penalty_with_the_distance(
    sizes: list[float], sparsity: float, strength: float, seed: int
) -> None:
    values = torch.tensor(sizes, dtype=torch.float64)
    kept = len(sizes) - round(sparsity * len(sizes))

    def cost(part: Tensor) -> float:
        return (strength * values.square() / (2 * (part + strength))).sum().item()

    best = shares(values, sparsity, strength)
    assert best.min() >= 0
    assert best.max() <= 1
    assert best.sum().item() == pytest.approx(min(kept, int((values > 0).sum())), abs=1e-6)
    draws = torch.rand((20, len(sizes)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for other in draws * kept / draws.sum(1, keepdim=True):
        if other.max() <= 1:
            assert cost(other) >= cost(best) - 1e-9 * cost(best)


def test_envelope_shrinks_what_is_not_among_the_largest_and_keeps_these_at_the_end() -> None:
    layers = weights([4.0, -2.0, 1.0, 1.0])
    asked = section(schedule="envelope", allocation="global", sparsity=0.5, strength=1.0, until=1.0)
    rule, optimizer = SparseEnvelope(layers, {}, 2, asked, Unasked()), SGD(layers.values(), lr=0.1)
    step(rule, optimizer, layers, [0.0] * 4)
    one, two, few = 1 / 1.1, 0.55 / 0.65, 0.225 / 0.325
    assert values(layers)[0] == pytest.approx([4 * one, -2 * two, few, few])
    assert kept(rule) == 4
    step(rule, optimizer, layers, [0.0] * 4)
    assert kept(rule) == 2
    assert values(layers)[0] == pytest.approx([4 * one, -2 * two, 0, 0])


def test_envelope_shrinks_channels_whole() -> None:
    class Chain:
        coupling = Coupling(
            outputs={"a": torch.tensor([1, 2]), "b": torch.tensor([0])},
            inputs={"a": torch.tensor([0, 0]), "b": torch.tensor([1, 2])},
            normalisations={},
            places={"a": 1, "b": 1},
            sets=3,
        )

    layers = {"a": nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 1.0]])), "b": nn.Parameter(torch.tensor([[1.0, 1.0]]))}
    asked = section(schedule="envelope", structure="filters", sparsity=0.5, strength=1.0, until=1.0)
    rule, optimizer = SparseEnvelope(layers, {}, 2, asked, Chain()), SGD(layers.values(), lr=0.1)
    for weight in layers.values():
        weight.grad = torch.zeros_like(weight)
    rule.before_step()
    optimizer.step()
    rule.after_step(optimizer)
    part = shares(torch.tensor([5.0, 1.0]), 0.5, 0.1)
    factor = (part / (part + 0.1)).tolist()
    assert layers["a"][0].tolist() == pytest.approx([3 * factor[0], 4 * factor[0]])
    assert layers["a"][1].tolist() == pytest.approx([0, factor[1]])
    assert layers["b"].tolist() == [[1, 1]]
    rule.after_step(optimizer)
    assert rule.masks["a"].tolist() == [[True, True], [False, False]]
    assert rule.masks["b"].tolist() == [[True, False]]
