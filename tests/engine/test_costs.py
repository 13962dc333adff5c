from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safs_ray.config import ConfigurationError, Execution
from safs_ray.engine import costs
from safs_ray.engine.costs import Cost
from safs_ray.engine.module import CheckingModule, EngineModule, FastestModule, inference_module, read
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.sparse.cohort import Single
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.fused import FusedCohort
from tests.engine.networks import assert_exact, drawn, images_of


def initial(model: str, channels: int, size: int, sparsity: float) -> Network:
    mean, deviation = (0.5,) * channels, (0.25,) * channels
    network = Network.initial(Specification(model, (channels, size, size), 10, mean, deviation), seed=0)
    return drawn(network, sparsity)


def test_cost_of_a_batch_counts_blocks() -> None:
    cost = Cost(call=100, block=8, images=32)
    assert [cost.of(images) for images in (1, 32, 33)] == [108, 108, 116]


def test_cost_always_above_another() -> None:
    engine = Cost(10, 1)
    assert Cost(10, 32, 32).always_above(engine)
    assert not Cost(9, 99).always_above(engine)
    assert not Cost(99, 31, 32).always_above(engine)


def test_costs_of_a_network_count_its_terms_and_products() -> None:
    network = initial("mlp", 1, 8, 0.5)
    steps, passes = read(network)
    left = network.nonzero_weights
    engine, dense, blocks = costs.of_engine(passes), costs.of_torch(network, steps), costs.of_blocks(passes)
    assert engine.block == pytest.approx(costs.SINGLE * left + costs.NUMBER * (64 + 300 + 100 + 10))
    assert dense.block == costs.PRODUCT * network.prunable_count + costs.NEURON * sum(step.neurons for step in steps)
    assert blocks == Cost(costs.BLOCK_CALL, costs.BLOCK_TERM * left, costs.BLOCK)
    assert costs.of_blocks(read(initial("lenet5", 1, 28, 0.5))[1]) is None


@pytest.mark.parametrize(("sparsity", "one", "many"), [(0.99, EngineModule, EngineModule), (0.1, EngineModule, Single)])
def test_inference_module_goes_the_cheapest_way_for_every_batch(sparsity: float, one: type, many: type) -> None:
    network = initial("lenet5", 1, 28, sparsity)
    module, images = inference_module(network), images_of(network, 40)
    chosen = [module.module_for(count) for count in (1, 256)] if isinstance(module, FastestModule) else [module] * 2
    assert [type(each) for each in chosen] == [one, many]
    assert_exact(module(images), network, images)
    assert not module.training
    assert not module(images).requires_grad


def test_inference_module_computes_many_images_of_features_in_blocks() -> None:
    network = initial("mlp", 1, 28, 0.9)
    module, images = inference_module(network, "sparse"), images_of(network, 300)
    assert isinstance(module, FastestModule)
    assert isinstance(module.module_for(8), EngineModule)
    many = module.module_for(300)
    assert isinstance(many, Single)
    assert isinstance(many.cohort, FusedCohort)
    assert_exact(module(images), network, images)
    assert_exact(module(images[:1]), network, images[:1])


def test_inference_module_that_is_sparse_never_computes_with_zeros() -> None:
    module = inference_module(initial("lenet5", 1, 28, 0.1), "sparse")
    assert isinstance(module, EngineModule)


def test_inference_module_is_dense_where_that_was_demanded_or_the_engine_cannot_be() -> None:
    network = initial("lenet5", 1, 28, 0.99)
    double = replace(network, state={name: tensor.double() for name, tensor in network.state.items()})
    for module in (inference_module(network, "dense"), inference_module(double)):
        assert isinstance(module, CheckingModule)
        assert isinstance(module.module, Single)
    assert isinstance(inference_module(network, "dense").module.cohort, DenseCohort)


@pytest.mark.parametrize("execution", ["dense", "auto", "sparse"])
def test_inference_module_refuses_other_images_however_it_computes(execution: Execution) -> None:
    module, images = inference_module(initial("lenet5", 1, 28, 0.1), execution), torch.zeros(2, 1, 28, 28).byte()
    for other, kind in (
        (images.float(), r"torch.float32 \(2, 1, 28, 28\)"), (images[..., 1:], r"torch.uint8 \(2, 1, 28, 27\)"),
        (images.repeat(1, 3, 1, 1), r"torch.uint8 \(2, 3, 28, 28\)"), (torch.tensor(1).byte(), r"torch.uint8 \(\)"),
        (images.numpy(), "ndarray"), (images.tolist(), "list"), (None, "NoneType"), (images.to_sparse(), "Tensor"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"^images must be uint8 \(N, 1, 28, 28\).*, not {kind}"):
            module(other)
    if execution == "sparse":
        with pytest.raises(ValueError, match=r"^images must be on the CPU, not on meta"):
            module(images.to("meta"))


def test_inference_module_refuses_sparse_execution_on_other_devices() -> None:
    with pytest.raises(ConfigurationError, match=r"^run.execution=sparse: runs on a CPU, not on cuda"):
        inference_module(initial("lenet5", 1, 28, 0.99), "sparse", torch.device("cuda"))
