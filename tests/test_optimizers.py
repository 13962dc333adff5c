from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from torch import nn, optim
from torch.optim import SGD, Adam, Optimizer

from safs_ray.config import Configuration, Hyperparameters, OptimizerName
from safs_ray.optimizers import OPTIMIZERS, SCHEDULES, Fromage, PerTensor, TAdam


def weights(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def group(*parameters: nn.Parameter, weight_decay: float = 0.0) -> list[dict[str, object]]:
    return [{"params": list(parameters), "weight_decay": weight_decay}]


def after(optimizer: Optimizer, parameter: nn.Parameter, *gradients: Sequence[float] | float) -> list[list[float]]:
    """The parameter's values after each step of the optimizer on these gradients."""
    trace = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
        optimizer.step()
        trace.append(parameter.tolist())
    return trace


class TestTAdam:
    def test_a_trace_worked_by_hand(self) -> None:
        parameter = weights(1.0, -2.0)
        trace = after(TAdam(group(parameter), lr=0.01), parameter, (1e-4, 0.0), (1e-4, 2e-4), (-3e-4, 2e-4))
        # One element has had a gradient, a distance of 1e-8 / 1e-8 = 1 from nothing: w = 2 * 1 / (1 + 1), as in Adam.
        assert trace[0] == pytest.approx([1 - 0.01 * 1e-4 / (1e-4 + 1e-8), -2.0], rel=1e-12)
        # w = 4 / (2 + 4.8091908); m = w / (9 + w) (1e-5 + 0.9..., 2e-4); W = 8 + w
        assert trace[1] == pytest.approx([0.9818363025055149, -2.0045591498209245], rel=1e-12)
        # w = 4 / (2 + 13.4458764), W = 8 / 9 * 8.5874413 + w
        assert trace[2] == pytest.approx([0.9806269707247957, -2.0085689264478828], rel=1e-12)

    def test_weight_decay_is_a_part_of_the_gradient(self) -> None:
        decayed, plain = weights(1e-3, -2e-3), weights(1e-3, -2e-3)
        decaying = after(TAdam(group(decayed, weight_decay=0.1), lr=0.01), decayed, (1e-4, 1e-4))
        assert decaying == after(TAdam(group(plain), lr=0.01), plain, (1e-4 + 0.1 * 1e-3, 1e-4 - 0.1 * 2e-3))

    def test_an_outlier_moves_it_far_less_than_adam(self) -> None:
        gradients = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)).tolist()
        robust, plain = weights(0.0, 0.0, 0.0), weights(0.0, 0.0, 0.0)
        steps = [
            abs(trace[-1][0] - trace[-2][0])
            for trace in (
                after(TAdam(group(robust), lr=0.01), robust, *gradients, (100.0, 100.0, 100.0)),
                after(Adam([plain], lr=0.01), plain, *gradients, (100.0, 100.0, 100.0)),
            )
        ]
        assert steps[0] < steps[1] / 10

    def test_elements_without_a_gradient_are_no_part_of_the_tensor(self) -> None:
        short, long = weights(1.0, -2.0), weights(1.0, 0.0, -2.0, 0.0, 0.0)
        gradients = [(1e-4, 3e-4), (-2e-4, 1e-4), (5e-4, 5e-4)]
        padded = [(first, 0.0, second, 0.0, 0.0) for first, second in gradients]
        expected = after(TAdam(group(short), lr=0.01), short, *gradients)
        found = after(TAdam(group(long), lr=0.01), long, *padded)
        assert [[values[0], values[2]] for values in found] == expected
        assert {values[index] for values in found for index in (1, 3, 4)} == {0.0}


class TestFromage:
    def test_a_trace_worked_by_hand(self) -> None:
        parameter = weights(3.0, 4.0)
        # lr = 3/4, so that √(1 + lr²) = 5/4. First |p| / |g| = 5/2, then √5.8 / 5, then √(0.4750088² + 0.16²) / 1.
        trace = after(Fromage(group(parameter), lr=0.75), parameter, (0.0, 2.0), (5.0, 0.0), (0.0, -1.0))
        assert trace[0] == pytest.approx([2.4, 0.2], rel=1e-12)
        assert trace[1] == pytest.approx([(2.4 - 0.75 * 5.8**0.5) / 1.25, 0.16], rel=1e-12)
        x = trace[1][0]
        assert trace[2] == pytest.approx([x / 1.25, (0.16 + 0.75 * (x**2 + 0.0256) ** 0.5) / 1.25], rel=1e-12)

    def test_weight_decay_is_a_part_of_the_gradient(self) -> None:
        parameter = weights(3.0, 4.0)
        trace = after(Fromage(group(parameter, weight_decay=0.5), lr=0.75), parameter, (-1.5, 0.0))
        assert trace[0] == pytest.approx([2.4, 0.2], rel=1e-12)

    def test_nothing_is_divided_by_zero(self) -> None:
        parameter = weights(0.0, 0.0)
        trace = after(Fromage(group(parameter), lr=0.75), parameter, (0.0, 0.0), (1.0, 0.0), (0.0, 0.0))
        assert trace == [[0.0, 0.0], pytest.approx([-0.6, 0.0]), pytest.approx([-0.48, 0.0])]

    def test_a_scale_moves_by_a_fraction_of_itself(self) -> None:
        scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        trace = after(Fromage(group(scale), lr=0.75), scale, 1e-6, -1e6)
        assert trace == pytest.approx([2 * 0.25 / 1.25, 0.4 * 1.75 / 1.25])


@pytest.mark.parametrize("kind", [TAdam, Fromage])
class TestBoth:
    def test_tensors_are_treated_each_on_its_own(self, kind: type[PerTensor]) -> None:
        alone, other, scale = weights(1.0, 2.0), weights(-3.0), nn.Parameter(torch.tensor(1.0))
        expected = after(kind(group(alone), lr=0.01), alone, (0.1, 0.2), (0.3, -0.1))
        together = weights(1.0, 2.0)
        optimizer = kind(group(together, other, scale), lr=0.01)
        other.grad, scale.grad = torch.ones_like(other), torch.ones_like(scale)
        assert after(optimizer, together, (0.1, 0.2), (0.3, -0.1)) == expected
        assert other.item() != -3
        assert scale.item() != 1

    def test_what_is_frozen_stays_bit_for_bit(self, kind: type[PerTensor]) -> None:
        learned, frozen = weights(1.0), weights(0.1).requires_grad_(False)
        after(kind(group(learned, frozen, weight_decay=0.1), lr=0.1), learned, (1.0,), (1.0,))
        assert frozen.item() == 0.1

    def test_gradients_of_zero_leave_everything_finite(self, kind: type[PerTensor]) -> None:
        parameter = weights(0.0, 1.0)
        trace = after(kind(group(parameter), lr=0.1), parameter, (0.0, 0.0), (1e-30, 0.0), (1e15, 0.0))
        assert torch.tensor(trace).isfinite().all()

    def test_a_loaded_state_goes_on_as_the_saved_one(self, kind: type[PerTensor]) -> None:
        first, second = weights(1.0, -2.0), weights(1.0, -2.0)
        whole = kind(group(first), lr=0.1)
        after(whole, first, (0.1, 0.2), (0.3, -0.1))
        second.data.copy_(first)
        loaded = kind(group(second), lr=0.5)
        loaded.load_state_dict(copy.deepcopy(whole.state_dict()))
        assert after(loaded, second, (0.5, 0.1)) == after(whole, first, (0.5, 0.1))

    def test_it_learns_what_sgd_learns(self, kind: type[PerTensor]) -> None:
        found = []
        for make in (lambda parameters: kind(group(*parameters), lr=0.02), lambda parameters: SGD(parameters, lr=0.1)):
            parameter = weights(1.0, 1.0)
            optimizer = make([parameter])
            for _ in range(2000):
                parameter.grad = 2 * (parameter.detach() - torch.tensor([0.5, 2.0]))
                optimizer.step()
            found.append(parameter.tolist())
        assert found[0] == pytest.approx(found[1], abs=0.1)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_torchs_own_take_its_steps_and_give_and_take_its_states(name: str) -> None:
    theirs = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}[name]
    chosen = Hyperparameters(optimizer=name, learning_rate=0.1, momentum=0.9 if name == "sgd" else 0.0)
    options = {"momentum": 0.9} if name == "sgd" else {}
    own, plain = weights(1.0, -2.0), weights(1.0, -2.0)
    ours = OPTIMIZERS[name](group(own, weight_decay=0.01), chosen, {})
    reference = theirs(group(plain, weight_decay=0.01), lr=0.1, fused=True, **options)
    gradients = [(0.5, -1.0), (0.1, 3.0), (-2.0, 0.0)]
    assert after(ours, own, *gradients) == after(reference, plain, *gradients)
    other = theirs(group(plain), lr=0.5, fused=True, **options)
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    torch.testing.assert_close(other.state_dict()["state"], reference.state_dict()["state"], rtol=0, atol=0)
    ours.load_state_dict(copy.deepcopy(other.state_dict()))
    assert after(ours, own, (1.0, 1.0)) == after(other, plain, (1.0, 1.0))
    ours.zero_grad()
    assert own.grad is None


def test_configured_names_are_all_there(configuration: Configuration) -> None:
    assert set(configuration.tune.space.sgd.schedules) == set(SCHEDULES)
    assert set(get_args(OptimizerName)) == set(OPTIMIZERS)
