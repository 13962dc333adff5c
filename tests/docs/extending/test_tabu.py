from tabu import Tabu

from safs_ray.testing import check_strategy


def test_tabu_is_a_strategy() -> None:
    check_strategy(Tabu)
