"""Names that a configuration knows before anything heavy is imported are those of the tables."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from safs_ray import models, operators, schedules
from safs_ray.config import names
from safs_ray.operators.variants import described
from safs_ray.pruning.scores import SCORES


@pytest.mark.parametrize(
    ("known", "table"),
    [
        (names.ARCHITECTURES, models.ARCHITECTURES),
        (names.OPERATORS, operators.OPERATORS),
        (names.SCORES, SCORES),
        (names.SCHEDULES, schedules.SCHEDULES),
    ],
)
def test_names_are_those_of_the_table(known: Collection[str], table: Collection[str]) -> None:
    assert list(known) == list(table)


def test_variants_are_named_with_their_settings() -> None:
    assert list(names.VARIANTS) == described()
