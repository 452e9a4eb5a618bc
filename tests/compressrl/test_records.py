"""Records of episodes that went wrong are records still."""

from __future__ import annotations

import math

import pytest

from compressrl import statistics
from compressrl.records import EpisodeRecords


def episodes(*returns: float) -> EpisodeRecords:
    zeros = (0.0,) * len(returns)
    return EpisodeRecords(tuple(range(len(returns))), returns, (1,) * len(returns), zeros)


def test_the_spread_is_that_of_the_population():
    assert episodes(1.0, 3.0).std_return == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_no_number_has_no_spread(bad):
    assert math.isnan(episodes(1.0, bad).std_return)


def test_a_retention_reads_with_as_much_interval_as_it_has():
    assert str(statistics.retention([100.0] * 8, [90.0] * 8)) == "90.0% (90.0% to 90.0%)"
    assert str(statistics.retention([100.0], [90.0])) == "90.0%"
    assert str(statistics.retention([-1.0], [90.0])) == "n/a"
