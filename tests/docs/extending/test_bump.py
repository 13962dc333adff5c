from safs_ray.testing import check_operator


def test_bump_is_an_operator() -> None:
    check_operator("bump:bump")
