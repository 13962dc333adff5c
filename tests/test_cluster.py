"""The cluster files, as Ray's own launcher reads them; nothing is started and no network is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parent.parent / "cluster"


@pytest.fixture
def launched() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CLUSTER / "gpu.yaml").read_text())
    prepared: dict[str, Any] = prepare_config(values)
    return prepared


def test_ray_accepts_the_file(launched: dict[str, Any]) -> None:
    validate_config(launched)


def test_ray_would_reject_a_mistake(launched: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="nodes"):
        validate_config({**launched, "nodes": 3})


def test_nothing_listens_where_it_should_not(launched: dict[str, Any]) -> None:
    (start,) = [command for command in launched["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in start
    for kind in launched["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"]
    assert "security_group" not in launched["provider"]
