from relative import relative_magnitude

from safs_ray.testing import check_score


def test_relative_magnitude_is_a_score() -> None:
    check_score(relative_magnitude)
