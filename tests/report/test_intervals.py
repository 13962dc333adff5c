from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from safs_ray.report.intervals import Estimate, difference, estimate, paired_difference

VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=8)
DISTINCT = st.lists(st.integers(0, 99), min_size=2, max_size=6, unique=True)


def test_an_estimate_by_hand() -> None:
    """Of 1, 2, 3: sd 1, and t(2) at 97.5 % is 4.3027, so 2 -+ 4.3027 / sqrt(3)."""
    found = estimate([1, 2, 3])
    assert (found.mean, found.sd) == (2, 1)
    assert found.low == pytest.approx(2 - 2.48414, abs=1e-4)
    assert found.high == pytest.approx(2 + 2.48414, abs=1e-4)
    assert not found.certain
    assert estimate([11, 12, 13]).certain


def test_a_single_value_has_no_interval() -> None:
    assert estimate([0.3]) == Estimate(0.3, None, None, None)
    assert difference([0.5], [0.2, 0.4]) == Estimate(pytest.approx(0.2), None, None, None)
    assert not estimate([0.3]).certain
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@given(VALUES)
def test_equal_values_leave_no_doubt(values: list[float]) -> None:
    found = estimate(values[:1] * 3)
    assert found.low == found.high == pytest.approx(values[0])
    assert difference(values[:1] * 2, values[:1] * 2).low == 0


@given(VALUES)
def test_pairs_are_the_one_sample_test_of_their_differences(values: list[float]) -> None:
    others = [value**2 + index / 7 for index, value in enumerate(values)]
    found = paired_difference(values, others)
    interval = stats.ttest_rel(values, others).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), nan_ok=True, abs=1e-9)


@given(DISTINCT, DISTINCT)
def test_a_difference_without_pairs_is_that_of_scipy(values: list[int], others: list[int]) -> None:
    found = difference(values, others)
    interval = stats.ttest_ind(values, others, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_a_difference_without_pairs_by_hand() -> None:
    """Variances 1 and 4, three values each: standard error sqrt(5/3), 2.94 degrees of freedom."""
    found = difference([10, 11, 12], [4, 6, 8])
    half = stats.t.ppf(0.975, 25 / (1 + 16) * 2) * (5 / 3) ** 0.5
    assert found.mean == 5
    assert (found.low, found.high) == pytest.approx((5 - half, 5 + half))
