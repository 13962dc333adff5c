from __future__ import annotations

from safs_ray.search.lahc import LateAcceptance
from safs_ray.search.walks import Walks

OPERATORS = ("relu", "tanh", "swish")


def walk(start: str, seed: int) -> LateAcceptance:
    return LateAcceptance(OPERATORS, (start,) * 3, 2, "redraw", seed)


def test_walks_go_their_own_ways() -> None:
    walks, alone = Walks([walk("relu", 1), walk("tanh", 2)]), [walk("relu", 1), walk("tanh", 2)]
    costs = (0.5, 0.7, 0.6, 0.4, 0.5, 0.8, 0.3, 0.4)
    for step, cost in enumerate(costs):
        own = alone[step % 2]
        assert walks.ask() == own.ask()
        limit = own.limit
        assert walks.limit == limit
        assert walks.tell(cost) == own.tell(cost) == (cost <= limit)
    assert (walks.best, walks.best_cost) == (alone[0].best, 0.3)
    assert walks.independent == 2
