from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

import safs_ray.tune  # noqa: F401 (sets what Ray reads when it starts)
from safs_ray.tune.board import NAMESPACE


@pytest.fixture
def cluster() -> Iterator[None]:
    """A Ray of this test's own."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, namespace=NAMESPACE)
    yield
    ray.shutdown()
