from __future__ import annotations

import pytest

from safs_ray.config import validate
from safs_ray.tune.running import placed


@pytest.mark.parametrize(
    ("device", "gpu", "have", "expected"),
    [
        ("auto", None, {"CPU": 2.0}, 0.0),
        ("auto", None, {"CPU": 2.0, "GPU": 4.0}, 1.0),
        ("cpu", None, {"GPU": 4.0}, 0.0),
        ("cuda", None, {"CPU": 2.0}, 1.0),  # the autoscaler is to start a node that has one
        ("auto", 0.25, {"GPU": 1.0}, 0.25),
        ("auto", 0.0, {"GPU": 1.0}, 0.0),
    ],
)
def test_a_trial_takes_a_gpu_where_there_is_one_unless_told(
    device: str, gpu: float | None, have: dict[str, float], expected: float
) -> None:
    begun = validate({"run": {"device": device}, "tune": {"resources": {"gpu": gpu}}})
    assert placed(begun, have).tune.resources.gpu == expected
