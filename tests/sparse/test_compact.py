from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from safs_ray.config import Configuration, PruningSection
from safs_ray.data import Splits
from safs_ray.losses import CROSS_ENTROPY, Targets
from safs_ray.models import ARCHITECTURES
from safs_ray.network import Network
from safs_ray.pruning.rules import FixedMasks
from safs_ray.pruning.structure import select
from safs_ray.sparse.compact import CompactCohort, compact
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import executable
from safs_ray.training import Context, Trainer, Training
from tests.engine.drawn import Drawn
from tests.engine.networks import images_of, network_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def architectures() -> Iterator[None]:
    yield
    ARCHITECTURES.pop("under test", None)


def without_channels(network: Network, share: float = 0.5) -> Network:
    section = PruningSection(macs=share)
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    return network.masked(select(scores, 1 - share, section, {}, network))


def convolutional(channels: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), decay=st.sampled_from([0.0, 0.1]))
def test_compact_cohort_trains_as_the_masked_dense_network_does(seed: int, decay: float) -> None:
    """In double precision. What no longer counts stays as it was."""
    network = network_of(lambda: Drawn(seed), size=Drawn(seed).size, sparsity=0, seed=seed)
    network = without_channels(network)
    network = replace(network, state={n: t.double() if t.is_floating_point() else t for n, t in network.state.items()})
    smaller = compact(network)
    assert smaller is not None
    dense = DenseCohort(network, network.build().double(), CPU)
    small = CompactCohort(network, smaller._replace(module=smaller.module.double()), CPU)
    rule = FixedMasks(dense.prunable, network.masks, 3)
    images, targets = images_of(network, 6, seed), Targets(torch.arange(6) % network.specification.outputs)
    for step in range(3):
        losses = [each.train().learn(images, targets, CROSS_ENTROPY) for each in (dense, small)]
        torch.testing.assert_close(*losses, rtol=1e-8, atol=1e-8)
        rule.before_step()
        for each in (dense, small):
            torch.optim.SGD([*each.weights, *each.scales], lr=0.01 * (step + 1), weight_decay=decay).step()
        rule.after_step(torch.optim.SGD(list(dense.weights)))
    expected, found = dense.state(0), small.state(0)
    assert found.keys() == expected.keys() == network.state.keys()
    for name, tensor in found.items():
        gone = torch.ones(tensor.shape, dtype=torch.bool)
        gone[index_of(smaller.kept.get(name))] = False
        torch.testing.assert_close(tensor[~gone], expected[name][~gone], rtol=1e-8, atol=1e-8)
        assert torch.equal(tensor[gone], network.state[name][gone])
    torch.testing.assert_close(dense.eval()(images), small.eval()(images), rtol=1e-8, atol=1e-8)


def index_of(kept: tuple[torch.Tensor, ...] | None) -> object:
    if kept is None:
        return ...
    return (kept[0][:, None], kept[1]) if len(kept) > 1 else kept


def test_compact_cohort_goes_on_from_a_state_that_it_gave() -> None:
    network = without_channels(network_of(convolutional, sparsity=0))
    smaller, again = compact(network), compact(network)
    assert smaller is not None
    assert again is not None
    one, other = CompactCohort(network, smaller, CPU), CompactCohort(network, again, CPU)
    for parameter in one.weights:
        parameter.data.add_(0.25)
    other.load(0, one.state(0))
    state = other.state(0)
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state(0).items())
    assert not torch.equal(state["0.weight"], network.state["0.weight"])


def test_compact_leaves_out_what_is_pruned_whole_alone() -> None:
    network = network_of(convolutional, sparsity=0)
    sparse = without_channels(network)
    smaller = compact(sparse)
    assert smaller is not None
    assert smaller.share <= 0.5
    assert compact(network) is None, "nothing goes"
    assert compact(replace(network, masks={})) is None
    assert compact(network_of(convolutional, sparsity=0.5)) is None, "single weights"
    mask = sparse.masks["3.weight"].clone()
    mask[tuple(mask.nonzero()[0])] = False
    assert compact(sparse.masked({**sparse.masks, "3.weight": mask})) is None, "channels and a single weight"


def test_execution_auto_leaves_out_channels_where_few_zeros_are_left() -> None:
    network = without_channels(network_of(convolutional, size=16, sparsity=0))
    assert isinstance(executable(network, "auto", CPU).cohort, CompactCohort)
    assert type(executable(network, "dense", CPU).cohort) is DenseCohort
    images = images_of(network)
    logits = [executable(network, execution, CPU).eval()(images) for execution in ("auto", "dense")]
    torch.testing.assert_close(*logits)


def test_trainer_of_a_compact_network_goes_on_bit_for_bit(splits: Splits, configuration: Configuration) -> None:
    network = without_channels(network_of(lambda: convolutional(1), channels=1, sparsity=0))
    training = Training(Context(configuration, splits), configuration.pruning.hyperparameters, epochs=3, seed=0)
    whole, broken, resumed = (Trainer([network], training) for _ in range(3))
    assert isinstance(whole._cohort, CompactCohort)
    whole.run()
    broken.run_epoch()
    resumed.load_state_dict(broken.state_dict())
    resumed.run()
    assert resumed.current().fingerprint == whole.current().fingerprint
    assert whole.current().sparsity == network.sparsity
