from __future__ import annotations

import pytest

from safs_ray.log import duration, percent


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (45, "45 s"), (100, "2 min"), (3600, "60 min"), (11_100, "3 h 05 min")]
)
def test_durations_as_a_person_says_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_percent() -> None:
    assert percent(0.1234) == " 12.3 %"
