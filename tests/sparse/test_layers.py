"""Pieces of a batch side by side, and what threads share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
import torch

import safs_ray
from safs_ray.sparse.layers import SHARED, share, side_by_side


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_side_by_side_gives_what_is_made_of_each_piece_in_their_order(threads: int, count: int) -> None:
    makers: set[int] = set()

    def make(piece: int) -> int:
        makers.add(threading.get_ident())
        return piece**2

    assert side_by_side(make, count) == [piece**2 for piece in range(count)]
    assert len(makers) <= (threads if count >= threads else 1)


def test_side_by_side_raises_what_a_piece_raises(threads: int) -> None:
    def make(piece: int) -> None:
        if piece == 4:
            raise KeyError(piece)

    with pytest.raises(KeyError, match="4"):
        side_by_side(make, 6)
    assert side_by_side(lambda piece: piece, threads) == list(range(threads))


def test_share_parts_its_work_but_within_pieces_side_by_side(threads: int) -> None:
    def parts(_piece: int) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        share(lambda begin, end: seen.append((begin, end)), 12, SHARED)
        return sorted(seen)

    assert len(parts(0)) == threads
    assert side_by_side(parts, threads)[0] == [(0, 12)]
    assert len(parts(0)) == threads


def test_threads_of_torch_do_not_look_for_work_for_long() -> None:
    assert safs_ray.__version__
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
