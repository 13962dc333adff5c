from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from safs_ray import config, stages
from safs_ray.config import Configuration, ConfigurationError
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.pruning.structure import select
from safs_ray.stages import latency
from safs_ray.stages.latency import largest_share


@given(fixed=st.floats(0, 0.9), power=st.floats(0.3, 2), latency=st.floats(0.01, 1))
def test_largest_share_is_the_largest_that_is_fast_enough(fixed: float, power: float, latency: float) -> None:
    def takes(share: float) -> float:
        return fixed + (1 - fixed) * float(share**power)

    share = largest_share(takes, latency)
    if share is None:
        assert takes(0.01) > latency
    else:
        assert takes(share) <= latency
        assert share == 1 or takes(min(1, 1.06 * share + 0.01)) > latency


def asking(configuration: Configuration, **pruning: object) -> Configuration:
    values = configuration.model_dump(mode="json")
    del values["pruning"]["sparsity"]
    return config.validate({**values, "pruning": {**values["pruning"], **pruning}})


def test_meet_latency_says_once_how_many_multiply_adds_stay(
    configuration: Configuration, specification: Specification, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timed by a clock that goes by the parameters: what so small a network takes, the calls decide."""

    def parameters(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    monkeypatch.setattr(latency, "_time_beside", lambda smaller, whole, _: parameters(smaller) / parameters(whole))
    network = Network.initial(specification, 0)
    asked = asking(configuration, latency=0.9)
    assert asked.pruning.structure == "filters"
    met = stages.meet_latency(asked, network)
    macs = met.pruning.macs
    assert macs is not None
    assert 0.8 < macs <= 0.9
    assert (met.pruning.latency, met.pruning.sparsity, met.pruning.structure) == (0.9, 1 - macs, "filters")
    told = r"^pruning\.latency=0\.9: does not go with pruning\.macs=.*, which follows from it; give one of them$"
    with pytest.raises(ConfigurationError, match=told):
        stages.meet_latency(met, network)
    scores = {name: weight.abs() for name, weight in network.prunable().items()}
    masks = select(scores, met.pruning.sparsity, met.pruning, {}, network)
    assert network.coupling.multiply_adds(masks) <= macs * network.prunable_count  # one place for each weight


def test_meet_latency_leaves_other_runs_as_they_are(configuration: Configuration, specification: Specification) -> None:
    network = Network.initial(specification, 0)
    assert stages.meet_latency(configuration, network) is configuration


def test_meet_latency_refuses_what_no_network_reaches(
    configuration: Configuration, specification: Specification
) -> None:
    with pytest.raises(ConfigurationError, match=r"^pruning\.latency=1e-06: with so few channels .* takes longer; "):
        stages.meet_latency(asking(configuration, latency=1e-6), Network.initial(specification, 0))
