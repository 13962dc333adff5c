"""Sparse execution against the masked dense network, in double precision, on random networks and masks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from safs_ray.config import TYPICAL, Costs
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.operators import OPERATORS
from safs_ray.sparse import plan
from safs_ray.sparse.lanes import LANES
from safs_ray.sparse.module import SparseCohort
from safs_ray.sparse.planned import cohort_of

CLASSES = 3


class Residual(nn.Module):
    """A block whose sum is in place, as torchvision's."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.activation = branch, shortcut, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x)
        out += self.shortcut(x)
        return self.activation(out)


@st.composite
def architectures(draw: st.DrawFn) -> tuple[int, int, Callable[[], nn.Module]]:
    """Channels and side of the images, and a function that builds a network for them."""
    images = first, _ = draw(st.integers(1, 2)), draw(st.integers(5, 9))
    layers: list[nn.Module] = []
    channels, shape = first, torch.zeros(2, *images, images[1])

    def add(layer: nn.Module) -> None:
        nonlocal shape
        layers.append(layer)
        shape = layer.eval()(shape)

    for _ in range(draw(st.integers(0, 3))):
        side = shape.shape[-1]
        of_planes = ["unit", "max", "average", "adaptive"] if side > 2 else []
        kinds = ["conv", "norm", "activation", "residual", *of_planes]
        kind = draw(st.sampled_from(kinds))
        if kind == "conv":
            groups = draw(st.sampled_from([1, channels]))
            out = groups * draw(st.integers(1, 3))
            kernel = draw(st.integers(1, min(3, side)))
            dilation = draw(st.integers(1, 2)) if side >= 2 * kernel - 1 else 1
            padding, stride = draw(st.sampled_from([*range(kernel), "same", "valid"])), draw(st.integers(1, 2))
            stride = 1 if padding == "same" else stride
            bias = draw(st.booleans())
            add(nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias))
            channels = out
        elif kind == "norm":
            add(nn.BatchNorm2d(channels))
        elif kind == "activation":
            add(nn.ReLU())
        elif kind == "residual":
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            shortcut = draw(st.sampled_from([nn.Identity(), nn.Conv2d(channels, channels, 1)]))
            add(Residual(nn.Sequential(conv, nn.BatchNorm2d(channels)), shortcut))
        elif kind == "unit":
            conv = nn.Conv2d(channels, channels + 1, 3, padding=1)
            add(nn.Sequential(conv, nn.BatchNorm2d(channels + 1), nn.ReLU(), nn.MaxPool2d(2)))
            channels += 1
        elif kind == "max":
            add(nn.MaxPool2d(draw(st.integers(2, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1)), ceil_mode=True))
        elif kind == "average":
            add(
                nn.AvgPool2d(
                    2, draw(st.integers(1, 2)), draw(st.integers(0, 1)), draw(st.booleans()), draw(st.booleans())
                )
            )
        else:
            add(nn.AdaptiveAvgPool2d(draw(st.integers(1, 3))))
    add(nn.Flatten())
    hidden = draw(st.integers(1, 5))
    layers += [nn.Linear(shape.shape[1], hidden), nn.Tanh()]
    layers += [nn.BatchNorm1d(hidden)] if draw(st.booleans()) else []
    layers += [nn.Linear(hidden, CLASSES)]
    return *images, lambda: copy.deepcopy(nn.Sequential(*layers))


@contextmanager
def architecture(build: Callable[[], nn.Module]) -> Iterator[str]:
    """The name of a network while it is in the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "drawn", Architecture(lambda _: build()))
        yield "drawn"


def doubled(network: Network) -> Network:
    return replace(
        network,
        state={name: each.double() if each.is_floating_point() else each for name, each in network.state.items()},
    )


def dense_module(network: Network) -> nn.Module:
    module = network.build().to(next(iter(network.state.values())).dtype)
    module.load_state_dict(dict(network.state))
    return module.train()


ALL_SPARSE, DENSE_WHERE_POSSIBLE = TYPICAL._replace(nonzero=1e-6), TYPICAL._replace(nonzero=1e6)


def sparse_cohort(network: Network, costs: Costs) -> SparseCohort:
    module = network.build()
    return SparseCohort(plan.make(network, module, costs), network, module)


def drawn_network(name: str, channels: int, size: int, kept: float, seed: int) -> Network:
    """Random weights, masks, operators and running statistics, in double precision."""
    specification = Specification(name, (channels, size, size), CLASSES, (0.4,) * channels, (0.3,) * channels)
    return network_drawn(specification, kept, seed)


def network_drawn(specification: Specification, kept: float, seed: int) -> Network:
    """The same of any inputs."""
    draws = torch.Generator().manual_seed(seed)
    network = Network.initial(specification, seed)
    names = list(OPERATORS)
    chosen = torch.randint(len(names), (len(network.sites),), generator=draws).tolist()
    network = doubled(network.assign([names[index] for index in chosen]))
    masks = {name: torch.rand(weight.shape, generator=draws) < kept for name, weight in network.prunable().items()}
    state = {
        name: torch.rand(each.shape, generator=draws, dtype=torch.float64) + 0.5 if "running_var" in name else each
        for name, each in network.state.items()
    }
    return replace(network, state=state).masked(masks)


def images_and_labels(count: int, channels: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=draws)
    return images, torch.randint(0, CLASSES, (count,), generator=draws)


def assert_equal_steps(network: Network, images: Tensor, labels: Tensor, tolerance: float, costs: Costs) -> None:
    """Logits, all gradients, and logits in evaluation mode after a step of gradient descent."""
    sparse, dense = sparse_cohort(network, costs), dense_module(network)
    dtype = next(dense.parameters()).dtype
    inputs = network.specification.normalised(images).to(dtype)

    def close(one: Tensor, other: Tensor, least: float = 1.0) -> None:
        scale = max([least, *other.detach().abs().flatten().tolist()])
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * scale)

    mine, theirs = sparse(images)[0], dense(inputs)
    close(mine, theirs)
    cross_entropy(mine, labels).backward()
    cross_entropy(theirs, labels).backward()
    gradients = {
        name: torch.zeros_like(each) if each.grad is None else each.grad for name, each in dense.named_parameters()
    }
    # That of a bias before a normalisation is 0, a sum of numbers as large as others: it is rounded as they are.
    largest = max([1.0, *(float(each.abs().max()) for each in gradients.values())])
    made = plan.make(network, network.build())
    left = made.gathered(gradients)
    for owner, values in sparse.values.items():
        close(torch.zeros_like(values) if values.grad is None else values.grad, left[owner], largest)
    removed = made.scattered({owner: 0 * values for owner, values in left.items()}, gradients)
    for name, gradient in {**gradients, **removed}.items():
        if not name.startswith(tuple(f"{site}." for site in network.sites)):
            kept = network.masks.get(name, torch.ones_like(gradient, dtype=torch.bool))
            assert (gradient[kept] == 0).all(), f"{name}: removed, but it has a gradient"
    names = [name for name in gradients if name.startswith(tuple(f"{site}." for site in network.sites))]
    for name, parameter in zip(names, sparse.scales, strict=True):
        close(torch.zeros(()).to(dtype) if parameter.grad is None else parameter.grad, gradients[name], largest)
    for module in (sparse, dense):
        torch.optim.SGD(module.parameters(), lr=0.1).step()
        module.eval()
    with torch.no_grad():
        for name, mask in network.masks.items():
            dense.get_parameter(name).mul_(mask)
        close(sparse(images)[0], dense(inputs))
        back = network.build().to(dtype).eval()
        back.load_state_dict(sparse.state(0))
        close(back(inputs), dense(inputs))


@given(drawn=architectures(), kept=st.floats(0.02, 1), count=st.sampled_from([2, 7, 33]), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize(
    ("most_connections", "costs"),
    [(10**9, ALL_SPARSE), (-1, ALL_SPARSE), (-1, DENSE_WHERE_POSSIBLE)],
    ids=["neurons", "channels", "mixed"],
)
def test_equals_the_masked_dense_network(
    most_connections: int,
    costs: Costs,
    drawn: tuple[int, int, Callable[[], nn.Module]],
    kept: float,
    count: int,
    seed: int,
) -> None:
    channels, size, build = drawn
    with architecture(build) as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MOST_CONNECTIONS", most_connections)
        # Dense is only what lies between values that are live as a whole.
        network = drawn_network(name, channels, size, max(kept, 0.7) if costs is DENSE_WHERE_POSSIBLE else kept, seed)
        assert_equal_steps(network, *images_and_labels(count, channels, size, seed), 1e-10, costs)


def test_a_mixed_network_goes_on_from_its_state() -> None:
    with architecture(mixed) as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MOST_CONNECTIONS", -1)
        network = drawn_network(name, 1, 6, 0.8, seed=0)
        first, second = (sparse_cohort(network, DENSE_WHERE_POSSIBLE) for _ in range(2))
        assert len(first._dense) == 3
        images, labels = images_and_labels(33, 1, 6, seed=0)
        for _ in range(2):
            cross_entropy(first(images)[0], labels).backward()
            torch.optim.SGD(first.parameters(), lr=0.1).step()
        second.load(0, first.state(0))
        assert torch.equal(second.eval()(images), first.eval()(images))
        for name, mask in network.masks.items():
            assert (first.state(0)[name][~mask] == 0).all()


def test_biases_before_a_normalisation_have_no_number_where_the_dense_network_has_none() -> None:
    with architecture(Branching) as name:
        network = drawn_network(name, 2, 6, 0.5, seed=0)
        network = replace(network, state={**network.state, "first.bias": network.state["first.bias"] * torch.nan})
        images, labels = images_and_labels(33, 2, 6, seed=0)
        sparse, dense = sparse_cohort(network, ALL_SPARSE), dense_module(network)
        cross_entropy(sparse(images)[0], labels).backward()
        cross_entropy(dense(network.specification.normalised(images).double()), labels).backward()
        right = dense.get_parameter("first.bias").grad
        assert right is not None
        assert right.isnan().all()
        assert sparse.gradients()[0]["first"][-len(right) :].isnan().all()


def test_two_losses_of_the_same_logits_add_their_gradients() -> None:
    with architecture(Branching) as name:
        network = drawn_network(name, 2, 6, 0.5, seed=0)
        images, labels = images_and_labels(33, 2, 6, seed=0)
        first, second = (sparse_cohort(network, ALL_SPARSE) for _ in range(2))
        logits = first(images)[0]
        cross_entropy(logits, labels).backward(retain_graph=True)
        logits.square().mean().backward()
        both = second(images)[0]
        (cross_entropy(both, labels) + both.square().mean()).backward()
        for one, other in zip(first.weights, second.weights, strict=True):
            torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("normed", [True, False])
def test_values_may_have_gaps_in_memory(normed: bool) -> None:
    build = Branching if normed else (lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.ReLU(), nn.Linear(8, 3)))
    with architecture(build) as name:
        network = drawn_network(name, 2, 6, 0.5, seed=0)
        images, _ = images_and_labels(33, 2, 6, seed=0)
        module = network.build()
        cohort = cohort_of(plan.make(network, module, ALL_SPARSE), network, module)
        assert isinstance(cohort, SparseCohort) is normed
        before = cohort(images)
        for values in cohort.weights:
            values.data = torch.stack([values.data, values.data + 5], -1)[..., 0]
        assert torch.equal(cohort(images), before)


def test_a_copy_follows_statistics_of_its_own() -> None:
    with architecture(lambda: nn.Sequential(Branching())) as name:
        network = drawn_network(name, 2, 6, 0.5, seed=0)
        cohort = sparse_cohort(network, ALL_SPARSE)
        kept, copied = cohort.state(0), copy.deepcopy(cohort).train()
        copied(images_and_labels(33, 2, 6, seed=0)[0])
        states = kept, cohort.state(0), copied.state(0)
        before, own, other = ([state[key] for key in state if "running" in key] for state in states)
        assert all(torch.equal(one, two) for one, two in zip(before, own, strict=True))
        assert not any(torch.equal(one, two) for one, two in zip(before, other, strict=True))


def test_an_operator_that_cannot_be_compiled_is_left_to_torch() -> None:
    with architecture(mixed) as name:
        network = drawn_network(name, 1, 6, 0.5, seed=0)
        network = doubled(network.assign([f"{__name__}:by_sinh", "srs"]))
        assert list(sparse_cohort(network, ALL_SPARSE)._compiled) == [network.sites[1]]
        assert_equal_steps(network, *images_and_labels(33, 1, 6, seed=0), 1e-10, ALL_SPARSE)


class Branching(nn.Module):
    """A residual sum, pooling of both kinds, and activations behind a normalisation and alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.last = nn.Conv2d(4, 4, 3, padding="same"), nn.Linear(4, CLASSES)
        self.acts = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.ReLU()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.acts[0](self.norm(self.first(x)))
        x = self.acts[1](x + self.second(x))
        x = nn.functional.avg_pool2d(nn.functional.max_pool2d(x, 2), 3)
        return self.last(self.acts[2](x.flatten(1)))


@pytest.mark.parametrize("costs", [ALL_SPARSE, TYPICAL], ids=["sparse", "typical"])
def test_a_batch_in_pieces_equals_the_dense_network_and_has_the_same_bits_on_any_number_of_threads(
    costs: Costs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safs_ray.sparse.module.PIECE_BYTES", 1)
    images, labels = images_and_labels(4 * LANES + 3, 2, 6, seed=0)
    before = torch.get_num_threads()
    with architecture(Branching) as name:
        network = drawn_network(name, 2, 6, 0.5, seed=0)
        assert_equal_steps(network, images, labels, 1e-9, costs)
        steps = []
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            cohort = sparse_cohort(network, costs)
            logits = cohort(images)[0]
            cross_entropy(logits, labels).backward()
            gradients = [parameter.grad for parameter in cohort.parameters() if parameter.grad is not None]
            steps.append([logits.detach(), *gradients, *cohort.state(0).values()])
    torch.set_num_threads(before)
    for other in steps[1:]:
        assert len(other) == len(steps[0])
        assert all(torch.equal(one, another) for one, another in zip(steps[0], other, strict=True))


def by_sinh(z: Tensor) -> Tensor:
    return torch.sinh(z.clamp(-3, 3))


def mixed() -> nn.Module:
    convolutions = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64, CLASSES))
