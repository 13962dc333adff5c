from __future__ import annotations

import pickle

import pytest

from safs_ray.tune.progress import Clock, duration, percent


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (45, "45 s"), (100, "2 min"), (3600, "60 min"), (11_100, "3 h 05 min")]
)
def test_durations_as_a_person_says_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_percent() -> None:
    assert percent(0.1234) == " 12.3 %"


def test_clock_tells_the_time_left_at_the_pace_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = Clock(epochs=10)
    assert clock.left() == "…"
    now, clock.done = 120.0, 4
    assert clock.left() == "30 s"
    assert pickle.loads(pickle.dumps(clock)).done == 4
