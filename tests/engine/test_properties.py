"""Random small networks by the engine, against the masked dense network in double precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safs_ray.config import PruningSection
from safs_ray.engine.module import EngineModule
from safs_ray.pruning.structure import select
from tests.engine.drawn import Drawn
from tests.engine.networks import assert_exact, images_of, network_of


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), sparsity=st.sampled_from([0.0, 0.5, 0.8, 0.95]))
def test_engine_module_computes_any_network(seed: int, sparsity: float) -> None:
    network = network_of(lambda: Drawn(seed), size=Drawn(seed).size, sparsity=sparsity, seed=seed)
    module, images = EngineModule(network), images_of(network, 2, seed)
    module._program._memory.fill_(torch.nan)  # whatever stands there from before is never read
    assert_exact(module(images), network, images)
    assert not module.foreign


@pytest.mark.parametrize("structure", ["2:4", "filters"])
def test_engine_module_computes_structures(structure: str) -> None:
    network = network_of(lambda: Drawn(7), size=Drawn(7).size, sparsity=0)
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    masks = select(scores, 0.5, PruningSection(structure=structure), {}, network)
    network = network.masked(masks)
    assert network.sparsity > 0.2
    images = images_of(network)
    assert_exact(EngineModule(network)(images), network, images)
