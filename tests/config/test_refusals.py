from __future__ import annotations

import pytest

from safs_ray.config import counted


@pytest.mark.parametrize(
    ("count", "nouns", "told"),
    [
        (0, ("trial",), "0 trials"),
        (1, ("trial",), "1 trial"),
        (2, ("trial",), "2 trials"),
        (12_000, ("image",), "12,000 images"),
        (1, ("class", "classes"), "1 class"),
        (10, ("class", "classes"), "10 classes"),
    ],
)
def test_what_is_counted_is_in_the_singular_where_it_is_one(count: int, nouns: tuple[str, ...], told: str) -> None:
    assert counted(count, *nouns) == told
