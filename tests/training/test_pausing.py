from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from safs_ray.training.pausing import Abandoned, Pausing


def test_pausing_runs_from_pause_to_pause_and_returns_at_the_end() -> None:
    told: list[int] = []

    def count(pause: Callable[[], None]) -> str:
        for number in range(3):
            told.append(number)
            pause()
        return "done"

    pausing = Pausing(count)
    for step in range(3):
        assert pausing.proceed() is None
        assert told == list(range(step + 1))
        assert not pausing.ended
    assert pausing.proceed() == "done"
    assert pausing.ended


def test_pausing_raises_what_the_function_raises() -> None:
    def fail(pause: Callable[[], None]) -> None:
        pause()
        raise ValueError("later")

    pausing = Pausing(fail)
    pausing.proceed()
    with pytest.raises(ValueError, match="later"):
        pausing.proceed()
    assert pausing.ended


def test_closed_pausing_ends_the_function_where_it_pauses() -> None:
    told: list[str] = []

    def clean_up(pause: Callable[[], None]) -> None:
        try:
            pause()
        except Abandoned:
            told.append("abandoned")
            pause()  # nobody lets it go on: it is abandoned again
            told.append("never")

    pausing = Pausing(clean_up)
    pausing.proceed()
    pausing.close()
    assert told == ["abandoned"]
    assert pausing.ended


def test_pausing_that_never_began_can_be_closed() -> None:
    Pausing(lambda _: None).close()


def test_function_that_pauses_has_the_threads_of_its_caller() -> None:
    assert Pausing(lambda _: torch.get_num_threads()).proceed() == torch.get_num_threads()
