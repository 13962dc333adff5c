from __future__ import annotations

from typing import Any

import pytest
import ray

from safs_ray.config import Configuration
from safs_ray.tune.causes import passes
from safs_ray.tune.connection import connect


def test_ray_that_does_not_start_may_start_another_time(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray 2.60 raises a bare Exception where a node does not answer in time, as on a busy machine."""
    monkeypatch.setenv("TUNE_DISABLE_SIGINT_HANDLER", "1")  # which connecting sets

    def start(**_: Any) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because …")

    monkeypatch.setattr(ray, "init", start)
    with pytest.raises(
        ConnectionError, match=r"Ray did not start \(The current node timed out during startup"
    ) as caught:
        connect(configuration)
    assert passes(caught.value)
