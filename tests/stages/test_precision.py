"""The arithmetic of dense training is chosen by timing it, and only where there is something to choose."""

from __future__ import annotations

import math

import pytest

from safs_ray import stages
from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.stages import precision


def changed(configuration: Configuration, section: str, **keys: object) -> Configuration:
    part = getattr(configuration, section).model_copy(update=keys)
    return configuration.model_copy(update={section: part})


@pytest.fixture
def network(specification: Specification) -> Network:
    return Network.initial(specification, 0)


@pytest.mark.parametrize(("faster", "chosen"), [(0.0, "dense bf16"), (math.inf, "auto")])
def test_choose_precision_goes_by_what_steps_take(
    configuration: Configuration,
    network: Network,
    splits: Splits,
    monkeypatch: pytest.MonkeyPatch,
    faster: float,
    chosen: str,
) -> None:
    monkeypatch.setattr(precision, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(precision, "FASTER", faster)
    assert stages.choose_precision(changed(configuration, "run", device="cpu"), network, splits).run.precision == chosen


def test_choose_precision_leaves_small_networks_in_float32(
    configuration: Configuration, network: Network, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "FASTER", 0.0)
    asked = changed(configuration, "run", device="cpu")
    assert stages.choose_precision(asked, network, splits) is asked


@pytest.mark.parametrize(
    ("section", "keys"),
    [("run", {"precision": "float32"}), ("run", {"address": "auto"}), ("run", {"device": "cuda"}),
     ("dense", {"epochs": 0}), ("model", {"weights": "some.safetensors"}),
     ("task", {"loop": "mine:Loop"})],
)  # fmt: skip
def test_choose_precision_chooses_nothing_where_there_is_nothing_to_choose(
    configuration: Configuration,
    network: Network,
    splits: Splits,
    monkeypatch: pytest.MonkeyPatch,
    section: str,
    keys: dict[str, object],
) -> None:
    monkeypatch.setattr(precision, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(precision, "FASTER", 0.0)
    asked = changed(configuration, section, **keys)
    assert stages.choose_precision(asked, network, splits) is asked
