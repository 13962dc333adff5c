"""Compiled losses against torch's, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from safs_ray.losses import CROSS_ENTROPY, BinaryCrossEntropy, CompiledLoss, CrossEntropy, Loss, OwnLoss, Targets
from safs_ray.sparse import plan
from safs_ray.sparse.fused import FusedCohort
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.losses import KINDS, goal_of, lose
from safs_ray.sparse.module import SparseCohort
from safs_ray.sparse.program import is_chain
from tests.sparse.test_module import architecture, architectures, drawn_network, images_and_labels
from tests.test_losses import LOSSES, drawn, goals


@given(
    loss=LOSSES,
    images=st.integers(1, LANES),
    first=st.integers(0, 3),
    outputs=st.integers(1, 12),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_lose_is_the_loss_of_torch(loss: Loss, images: int, first: int, outputs: int, seed: int) -> None:
    logits, targets = drawn(first + images, outputs, seed)
    own = logits[first:].clone().requires_grad_()
    taught = None if targets.taught is None else targets.taught[first:]
    expected = loss(own, Targets(targets.labels[first:], taught))
    (gradient,) = torch.autograd.grad(expected, own)
    block, found = np.zeros((outputs, LANES)), np.full((outputs, LANES), np.nan)
    block[:, :images] = logits[first:].T
    value = lose(goal_of(loss, targets, block.dtype), first, first + images, found, block, images)
    assert value / images == pytest.approx(expected.item(), rel=1e-10, abs=1e-12)
    torch.testing.assert_close(torch.from_numpy(found[:, :images].T.copy()), gradient, rtol=1e-9, atol=1e-12)
    assert (found[:, images:] == 0).all()


@given(loss_and_targets=goals(), images=st.integers(1, LANES), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_lose_of_values_labels_and_weighed_classes_is_the_loss_of_torch(
    loss_and_targets: tuple[Loss, Callable[[int, int], tuple[torch.Tensor, Targets]]], images: int, seed: int
) -> None:
    loss, draw = loss_and_targets
    outputs, targets = draw(images, seed)
    own = outputs.clone().requires_grad_()
    expected = loss(own, targets)
    (gradient,) = torch.autograd.grad(expected, own)
    block, found = np.zeros((outputs.shape[1], LANES)), np.full((outputs.shape[1], LANES), np.nan)
    block[:, :images] = outputs.T
    value = lose(goal_of(loss, targets, block.dtype), 0, images, found, block, images)
    assert value / images == pytest.approx(expected.item(), rel=1e-10, abs=1e-12)
    torch.testing.assert_close(torch.from_numpy(found[:, :images].T.copy()), gradient, rtol=1e-9, atol=1e-12)
    assert (found[:, images:] == 0).all()


@pytest.mark.parametrize("loss", [CROSS_ENTROPY, CrossEntropy(smoothing=0.1), CrossEntropy(weights=(1.0, 2.0, 0.5))])
@pytest.mark.parametrize("behind", [np.inf, -np.inf, np.nan, 1e38])
def test_lose_in_float32_reads_no_lane_behind_the_last_image(loss: CompiledLoss, behind: float) -> None:
    logits = torch.tensor([[90.0, -90.0, 0.0], [-3e38, 1.0, 2.0], [0.0, 0.0, 0.0], [20.0, 1.0, -7.0]])
    targets = Targets(torch.tensor([1, 2, 0, 0]))
    own = logits.double().requires_grad_()
    expected = loss(own, targets)
    (gradient,) = torch.autograd.grad(expected, own)
    block, found = np.full((3, LANES), behind, np.float32), np.full((3, LANES), np.nan, np.float32)
    block[:, :4] = logits.T
    value = lose(goal_of(loss, targets, block.dtype), 0, 4, found, block, 4)
    assert value / 4 == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(torch.from_numpy(found[:, :4].T).double(), gradient, rtol=1e-5, atol=1e-8)
    assert (found[:, 4:] == 0).all()


@pytest.mark.parametrize("loss", [CROSS_ENTROPY, CrossEntropy(weights=(0.3, 0.7, 1.1))])
def test_lose_of_what_is_certain_has_no_gradient(loss: CompiledLoss) -> None:
    """Nor a rounding of one: an optimizer that scales its steps, as Adam and Fromage do, would follow it."""
    targets = Targets(torch.arange(50) % 3)
    block, found = np.full((3, LANES), -200, np.float32), np.full((3, LANES), np.nan, np.float32)
    block[np.arange(LANES) % 3, np.arange(LANES)] = 300
    assert lose(goal_of(loss, targets, block.dtype), 0, LANES, found, block, 50) == 0
    assert np.abs(found).max() < 1e-37, "no more than the least exponential there is"


def test_lose_in_float32_loses_no_digits_to_what_all_logits_share() -> None:
    draws = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(1000, LANES, generator=draws), torch.arange(LANES)
    for shift in (0, 1e3, -1e4):
        block, found = (logits + shift).numpy(), np.zeros((1000, LANES), np.float32)
        loss = CrossEntropy(smoothing=0.1)
        expected = loss(torch.from_numpy(block.T.astype(np.float64)), Targets(labels)).item()
        value = lose(goal_of(loss, Targets(labels), block.dtype), 0, LANES, found, block, LANES)
        assert value / LANES == pytest.approx(expected, rel=1e-5)


def test_lose_of_labels_far_off_is_exact() -> None:
    """The cross-entropy of a label that applies at an output of -1000 is 1000, and no exponential overflows."""
    block, found = np.full((1, LANES), -1000, np.float32), np.zeros((1, LANES), np.float32)
    goal = goal_of(BinaryCrossEntropy(), Targets(torch.ones(LANES, 1)), block.dtype)
    assert lose(goal, 0, LANES, found, block, LANES) == 1000 * LANES
    assert found.tolist() == [[-1 / LANES] * LANES]


def test_learn_has_the_gradients_of_a_loss_of_a_users_own() -> None:
    loss = OwnLoss(lambda outputs, labels: (outputs.square().sum(1) * labels).mean())
    with architecture(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 3))) as name:
        network = drawn_network(name, 1, 4, 0.5, 0)
        made = plan.make(network, network.build())
        images, labels = images_and_labels(33, 1, 4, 0)
        layers, fused = SparseCohort(made, network, network.build()), FusedCohort(made, [network, network])
        one, two = (cohort.learn(images, Targets(labels), loss) for cohort in (layers, fused))
        torch.testing.assert_close(two, one.expand(2), rtol=1e-10, atol=1e-10)
        expected = torch.cat([values.grad for values in layers.values.values() if values.grad is not None])
        assert fused.values.grad is not None
        for gradient in fused.values.grad[:, : made.values]:
            torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_lose_of_unlikely_classes_is_exact() -> None:
    """The hard cross-entropy of logits 0 and 1000 is 1000, and no exponential overflows."""
    block, found = np.zeros((2, LANES), np.float32), np.zeros((2, LANES), np.float32)
    block[1] = 1000
    goal = goal_of(CROSS_ENTROPY, Targets(torch.zeros(LANES, dtype=torch.int64)), block.dtype)
    assert lose(goal, 0, LANES, found, block, LANES) == 1000 * LANES
    assert found.tolist() == [[-1 / LANES] * LANES, [1 / LANES] * LANES]


def test_every_loss_has_a_kernel() -> None:
    assert {loss.name for loss in CompiledLoss.__subclasses__()} == KINDS.keys()
    assert len(set(KINDS.values())) == len(KINDS)


@given(
    drawn=architectures(),
    loss=LOSSES,
    kept=st.floats(0.02, 1),
    count=st.sampled_from([1, 33, 64]),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_learn_has_the_gradients_of_any_loss_in_every_execution(
    drawn: tuple[int, int, Callable[[], nn.Module]], loss: CrossEntropy, kept: float, count: int, seed: int
) -> None:
    channels, size, build = drawn
    with architecture(build) as name:
        network = drawn_network(name, channels, size, kept, seed)
        made = plan.make(network, network.build())
        if not is_chain(made):
            return
        images, labels = images_and_labels(count, channels, size, seed)
        draws = torch.Generator().manual_seed(seed)
        layers = SparseCohort(made, network, network.build())
        taught = torch.randn(layers(images)[0].shape, dtype=torch.float64, generator=draws)
        fused = FusedCohort(made, [network, network])
        one, two = (cohort.learn(images, Targets(labels, taught), loss) for cohort in (layers, fused))
        torch.testing.assert_close(two, one.expand(2), rtol=1e-10, atol=1e-10)
        expected = torch.cat(
            [values.grad if values.grad is not None else 0 * values for values in layers.values.values()]
        )
        assert fused.values.grad is not None
        for gradient in fused.values.grad[:, : made.values]:
            torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9 * max(1.0, float(expected.abs().max())))
