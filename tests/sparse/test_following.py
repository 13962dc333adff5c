"""A network whose masks change, computed with its nonzeros of the moment, against the masked dense network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from safs_ray.config import TYPICAL, Configuration, Costs, Hyperparameters, PruningSection, RunSection
from safs_ray.data import Splits
from safs_ray.losses import CROSS_ENTROPY, Targets
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.pruning.allocation import layer
from safs_ray.pruning.changing import RULES
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.execution import following
from safs_ray.sparse.following import FollowingCohort
from safs_ray.training import Context, Trainer, Training

CPU = torch.device("cpu")

ALWAYS = Costs(nonzero=1e-3, neuron=1e-3, crossing=1e6)
"""By which zeros are left out wherever there are any."""


def doubled(model: str) -> Network:
    channels, size = (1, 28) if model == "lenet5" else (3, 32)
    specification = Specification(model, (channels, size, size), 10, (0.5,) * channels, (0.25,) * channels)
    network = Network.initial(specification, seed=0)
    network = network.assign([("tanh", "srs")[place % 2] for place in range(len(network.sites))])
    state = {name: each.double() if each.is_floating_point() else each for name, each in network.state.items()}
    return replace(network, state=state)


def magnitudes(network: Network) -> dict[str, Tensor]:
    return {name: weight.abs() for name, weight in network.prunable().items()}


def shuffled(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: mask.flip(0) for name, mask in masks.items()}


def made(network: Network, cohort_of: str, costs: Costs = TYPICAL) -> Cohort:
    if cohort_of == "dense":
        module = network.build().to(network.dtype)
        return DenseCohort(network, module, CPU).train()
    made = following(network, "auto", CPU, costs)
    assert isinstance(made, FollowingCohort)
    return made.to(network.dtype).train()


def step(cohort: Cohort, masks: Mapping[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Set weights to zero as a rule does, and learn; returns the losses."""
    with torch.no_grad():
        for name, weight in cohort.prunable.items():
            weight.masked_fill_(~masks[name], 0)
    return cohort.learn(images, Targets(labels), CROSS_ENTROPY)


@pytest.mark.parametrize(("model", "learns_scales"), [("lenet5", True), ("lenet5", False), ("vgg16", True)])
def test_following_gives_the_losses_and_gradients_of_the_masked_dense_network(model: str, learns_scales: bool) -> None:
    network = doubled(model)
    dense, sparse = made(network, "dense"), made(network, "following")
    if not learns_scales:
        dense.freeze_scales()
        sparse.freeze_scales()
    scores, draws = magnitudes(network), torch.Generator().manual_seed(0)
    count = 3 if model == "vgg16" else 40
    images = torch.randint(0, 256, (count, *network.specification.shape), dtype=torch.uint8, generator=draws)
    labels = torch.randint(0, 10, (count,), generator=draws)
    whole = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    sparser = [layer(scores, sparsity) for sparsity in (0.9, 0.92, 0.99)]
    computed = []
    for number, masks in enumerate([whole, *sparser, shuffled(sparser[-1])]):
        sparse.follow(masks, reads_dropped=number == 2)
        expected, given = (step(each, masks, images, labels) for each in (dense, sparse))
        torch.testing.assert_close(given, expected)
        computed.append(sparse._nonzeros is not None)
        others = dict(dense._module.named_parameters())
        for name, parameter in sparse._module.named_parameters():
            if (gradient := others[name].grad) is None:
                assert parameter.grad is None
                continue
            assert parameter.grad is not None
            mask = masks[name] if name in masks and number != 2 else torch.ones_like(gradient, dtype=torch.bool)
            torch.testing.assert_close(parameter.grad * mask, gradient * mask, rtol=1e-6, atol=1e-9)
    assert computed == [model == "lenet5", True, True, True, True]
    with torch.no_grad():
        torch.testing.assert_close(sparse.eval()(images), dense.eval()(images))


def test_following_makes_a_plan_anew_only_where_weights_grow_or_far_fewer_are_left() -> None:
    network = doubled("lenet5")
    cohort, scores = made(network, "following", ALWAYS), magnitudes(network)
    masks = [layer(scores, sparsity) for sparsity in (0.5, 0.55, 0.6, 0.6)]
    planned = []
    for each in [*masks[:3], shuffled(masks[3])]:
        cohort.follow(each, reads_dropped=False)
        planned.append(cohort.planned is each)
    assert planned == [True, False, True, True]


def test_following_is_dense_where_it_cannot_or_shall_not_follow() -> None:
    network = doubled("lenet5")
    assert isinstance(following(network, "dense", CPU), DenseCohort)
    untraced = Specification("efficientnet_b0", (3, 32, 32), 10, (0.5,) * 3, (0.25,) * 3)
    assert isinstance(following(Network.initial(untraced, seed=0), "auto", CPU), DenseCohort)


@pytest.mark.parametrize("schedule", sorted(RULES))
def test_following_trains_as_the_dense_network_and_goes_on_bit_for_bit(splits: Splits, schedule: str) -> None:
    chosen = Hyperparameters(optimizer="sgd", learning_rate=0.02, momentum=0.9, batch_size=50, weight_decay=1e-3)
    section = PruningSection.model_validate(
        {"sparsity": 0.95, "schedule": schedule, "interval": 3, "until": 0.6, "hyperparameters": chosen.model_dump()}
    )
    channels, size, _ = splits.train.inputs.shape[1:]
    specification = Specification("mlp", (channels, size, size), 10, (0.5,) * channels, (0.25,) * channels)
    network = Network.initial(specification, seed=0)
    if schedule == "rigl":
        network = network.masked(layer(magnitudes(network), 0.95))

    def trainer(execution: str) -> Trainer:
        run = RunSection.model_validate({"execution": execution, "costs": tuple(ALWAYS)})
        context = Context(Configuration(run=run), splits)
        rule = partial(RULES[schedule], section=section, network=network)
        return Trainer([network], Training(context, chosen, epochs=5, seed=0, mask_rule=rule))

    dense, whole, first, second = (trainer(execution) for execution in ("dense", "auto", "auto", "auto"))
    dense.run()
    whole.run()
    assert isinstance(whole._cohort, FollowingCohort)
    assert whole._cohort._nonzeros is not None
    assert whole.current().masks.keys() == dense.current().masks.keys()
    for name, weight in whole.current().state.items():
        torch.testing.assert_close(weight, dense.current().state[name], rtol=1e-2, atol=1e-3)
    for _ in range(3):
        first.run_epoch()
    second.load_state_dict(first.state_dict())
    second.run()
    assert second.current().fingerprint == whole.current().fingerprint
