from __future__ import annotations

import pytest

from safs_ray.log import log


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told reaches ``caplog``, also after a command in this process has shown it elsewhere."""
    monkeypatch.setattr(log, "propagate", True)
