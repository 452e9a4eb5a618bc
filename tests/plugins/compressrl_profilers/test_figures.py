import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compressrl_profilers import figures
from compressrl_profilers.figures import Figure, Metered
from compressrl_profilers.windows import Window


def _window(joules, decisions=100, seconds=2.0, ticks=200, cpu=1.0, busy=1.0):
    joules = joules if isinstance(joules, tuple) else (joules,)
    ticks = ticks if isinstance(ticks, tuple) else (ticks,) * len(joules)
    return Window(seconds, cpu, decisions, joules, ticks, busy)


IDLE = [_window(20.0, decisions=0), _window(24.0, decisions=0)]  # 10 and 12 W


def test_interval_is_that_of_the_t_distribution():
    # Textbook sample: mean 5, s = 1, t(0.975, 3) = 3.182
    figure = Figure(np.array([5 - math.sqrt(1.5), 5.0, 5.0, 5 + math.sqrt(1.5)]))
    assert figure.scatter == pytest.approx(0.5)
    assert figure.ci95 == pytest.approx((5 - 1.5912, 5 + 1.5912), abs=1e-3)


def test_hidden_uncertainty_widens_the_interval():
    samples = np.array([1.0, 1.0, 1.0, 1.0])
    assert Figure(samples).ci95 == (1.0, 1.0)
    assert Figure(samples, hidden=0.1).ci95 == pytest.approx((1 - 0.31824, 1 + 0.31824), abs=1e-4)


@given(st.integers(0, 2**31))
def test_difference_is_paired(seed):
    rng = np.random.default_rng(seed)
    drift = rng.normal(0, 100, 10)
    base, other = Figure(10 + drift), Figure(11 + drift + rng.normal(0, 1e-6, 10))
    assert not other.minus(base).holds_zero
    assert base.minus(base).holds_zero


def test_gross_and_net_of_idle_power():
    side = Metered.of([_window(50.0), _window(54.0)], IDLE)
    assert side.gross.tolist() == [0.5, 0.54]
    assert side.net == pytest.approx([0.5 - 11 * 0.02, 0.54 - 11 * 0.02])
    assert side.idle_watts_uncertainty == pytest.approx(1.0)  # s = sqrt 2 W over K = 2
    assert side.figure.hidden == pytest.approx(math.hypot(1.0 * 0.02, side.phase))


def test_counter_phase_is_period_over_window_times_sqrt_6():
    side = Metered.of([_window(50.0, ticks=100), _window(50.0, ticks=300)], IDLE)
    assert side.phase == pytest.approx(0.5 / 200 / math.sqrt(6))


def test_counter_phases_of_several_meters_add_in_squares():
    windows = [_window((30.0, 40.0), ticks=(1000, 100))] * 2
    side = Metered.of(windows, IDLE)
    assert side.gross.tolist() == [0.7, 0.7]
    assert side.phase == pytest.approx(math.hypot(0.3 / 1000, 0.4 / 100) / math.sqrt(6))


def test_the_idle_power_cancels_in_a_difference_of_equally_long_decisions():
    base = Metered.of([_window(46.0, ticks=10**9)] * 2, IDLE)
    other = Metered.of([_window(47.0, ticks=10**9)] * 2, IDLE)
    assert base.figure.holds_zero, "1 W of idle uncertainty, 12.7 times as much at one degree of freedom"
    assert other.minus(base).mean == pytest.approx(0.01)
    assert not other.minus(base).holds_zero


def test_the_idle_power_counts_in_a_difference_of_unequally_long_decisions():
    base = Metered.of([_window(50.0, ticks=10**9)] * 2, IDLE)
    slower = Metered.of([_window(51.0, ticks=10**9, decisions=50)] * 2, IDLE)
    assert slower.minus(base).hidden == pytest.approx(1.0 * 0.02)


def test_cpu_seconds_and_decisions():
    side = [_window(1.0, decisions=10, cpu=1.0), _window(1.0, decisions=20, cpu=3.0)]
    assert figures.decisions(side) == 30
    assert figures.cpu_seconds(side).samples.tolist() == [0.1, 0.15]


def test_shares_of_a_process_alone():
    idle = [_window(1.0, busy=0.0, cpu=0.0)] * 2
    assert figures.cpu_shares([_window(1.0, cpu=2.0, busy=2.0)] * 2, idle) == (1.0, 1.0)
    # /proc/stat counts in 10 ms: a share never exceeds 1
    assert figures.cpu_shares([_window(1.0, cpu=2.0, busy=1.99)] * 2, idle) == (1.0, 1.0)


def test_what_others_use_all_along_does_not_lower_the_share_above_idle():
    idle = [_window(1.0, busy=2.0, cpu=0.0)] * 2
    assert figures.cpu_shares([_window(1.0, cpu=2.0, busy=4.0)] * 2, idle) == (0.5, 1.0)
    assert figures.cpu_shares([_window(1.0, cpu=2.0, busy=6.0)] * 2, idle) == (pytest.approx(1 / 3), 0.5)


def test_shares_are_unknown_without_the_machines_busy_time():
    window = _window(1.0, busy=None)
    assert figures.cpu_shares([window], [window]) is None


def test_a_remainder_is_welchs_difference():
    whole, part = np.array([9.0, 10.0, 11.5]), np.array([3.0, 3.1, 2.9, 3.05, 3.2])
    mean, interval = figures.remainder(Figure(whole), [Figure(part)])
    expected = stats.ttest_ind(whole, part, equal_var=False).confidence_interval(0.95)
    assert mean == pytest.approx(whole.mean() - part.mean())
    assert interval == pytest.approx((expected.low, expected.high))


def test_a_remainder_takes_away_every_part_and_keeps_what_scatter_hides():
    flat = np.full(3, 1.0)
    mean, (low, high) = figures.remainder(Figure(flat * 5, hidden=0.3), [Figure(flat), Figure(flat, 0.4)])
    assert mean == 3.0
    assert (high - low) / 2 == pytest.approx(1.96 * 0.5, rel=1e-3)
