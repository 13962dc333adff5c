from __future__ import annotations

import pytest

from safs_ray.experiment import Row, Stage, final, finalists_place
from safs_ray.search.course import Sweep


def nothing(*_: object) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("dense", "dense"),
        ("pruned-found", "pruned-found"),
        ("final/SAFS/fold-1", "final/SAFS"),
        ("finalists/stage 1/chain-2/seed-0", "finalists/stage 1/chain-2"),
    ],
)
def test_stages_of_one_recipe_share_a_place(name: str, place: str) -> None:
    assert Stage(name, 1, nothing).place == place  # type: ignore[arg-type]


def test_names_of_final_results_and_places_of_finalists() -> None:
    assert final(Row.OPERATORS, 2) == "final/stage 1/fold-2"
    assert finalists_place(Sweep.SCALES) == "finalists/stage 2"
    assert finalists_place(Sweep.SAFS, "trial-3") == "finalists/SAFS/trial-3"
