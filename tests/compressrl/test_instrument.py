"""InstrumentedEnv: transparent to every other library, and right about what it counted."""

import copy
import itertools
import math
import pickle
import time
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as check_sb3

from compressrl.errors import UnknownNameError, UsageError
from compressrl.instrument import INITIAL_STEPS, InstrumentedEnv
from compressrl.testing import TINY

HALF_CHEETAH = "HalfCheetah-v5"
CHECKED = [TINY, HALF_CHEETAH, "Hopper-v5", "Pendulum-v1"]
LEVELS = ["full", "light", "time"]


class Counter:
    """Advances by `rate` a reading."""

    quantity, unit = "energy", "J"

    def __init__(self, rate=2.0):
        self.rate = rate
        self.value = 100.0

    def available(self):
        return True, "a counter"

    def read(self):
        self.value += self.rate
        return self.value


class Gauge:
    """A level: the given values, in turn."""

    quantity, unit, cumulative = "memory", "B", False

    def __init__(self, *values):
        self.values = itertools.cycle(values)

    def available(self):
        return True, "a gauge"

    def read(self):
        return next(self.values)


class Bare(Counter):
    """A counter with a function of its own for the step loop."""

    def reader(self):
        readings = itertools.chain([1.0, 1.0], itertools.repeat(5.0, 3), itertools.repeat(math.nan))
        return readings.__next__


class Absent:
    quantity, unit = "energy", "J"

    def __init__(self):
        self.readings = 0

    def available(self):
        return False, "no meter"

    def read(self):
        self.readings += 1


class ResidentSet:
    """What a real one does: a descriptor that is opened lazily in each process."""

    quantity, unit, cumulative = "memory", "B", False

    def available(self):
        return True, "statm"

    def read(self):
        return float(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Endless(gymnasium.Env):
    """Steps take `seconds`; an episode ends after `length` steps, if ever."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, length=None, seconds=0.0):
        self.length, self.seconds, self.steps = length, seconds, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        time.sleep(self.seconds)
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, self.steps == self.length, False, {}


def _run(env, steps):
    env.reset(seed=0)
    for _ in range(steps):
        env.step(env.action_space.sample())


def _warnings(check, *args, **kwargs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(*args, **kwargs)
    return [str(warning.message) for warning in caught]


class TestTransparency:
    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize("env_id", CHECKED)
    def test_gymnasium_checker(self, env_id, level):
        wrapped = InstrumentedEnv(gymnasium.make(env_id), [ResidentSet()], level)
        found = _warnings(check_gymnasium, wrapped, skip_render_check=True)
        # The environments have warnings of their own; the checker warns of any wrapper.
        assert [text for text in found if "different from the unwrapped version" not in text] == _warnings(
            check_gymnasium, gymnasium.make(env_id).unwrapped, skip_render_check=True
        )

    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize("env_id", CHECKED)
    def test_stable_baselines3_checker(self, env_id, level):
        wrapped = InstrumentedEnv(gymnasium.make(env_id), [ResidentSet()], level)
        assert _warnings(check_sb3, wrapped) == _warnings(check_sb3, gymnasium.make(env_id))

    @pytest.mark.parametrize("level", LEVELS)
    def test_everything_passes_through_unchanged(self, level):
        plain, wrapped = gymnasium.make(TINY), gymnasium.make(TINY)
        wrapped = InstrumentedEnv(wrapped, [Counter(), Gauge(1.0)], level)
        plain.action_space.seed(1)
        assert wrapped.observation_space == plain.observation_space
        assert wrapped.action_space == plain.action_space
        for seed in range(3):
            np.testing.assert_array_equal(plain.reset(seed=seed)[0], wrapped.reset(seed=seed)[0])
            done = False
            while not done:
                action = plain.action_space.sample()
                expected, got = plain.step(action), wrapped.step(action)
                np.testing.assert_array_equal(expected[0], got[0])
                assert expected[1:4] == got[1:4]
                assert expected[4].keys() == got[4].keys(), "info stays as it was"
                done = got[2] or got[3]

    @pytest.mark.parametrize("make_vector", [SyncVectorEnv, AsyncVectorEnv])
    def test_vector_environments(self, make_vector):
        def make():
            return InstrumentedEnv(gymnasium.make(TINY), [ResidentSet(), Counter()], info_key="cost")

        vector = make_vector([make, make])
        try:
            vector.reset(seed=0)
            vector.action_space.seed(0)
            infos = [vector.step(vector.action_space.sample())[4] for _ in range(60)]
            episodes = [list(each) for each in vector.get_attr("episodes")]
        finally:
            vector.close()
        assert len(episodes) == 2
        assert all(cost.finished and cost.memory_peak_bytes > 1e6 for each in episodes for cost in each)
        costs = [info["cost"] for info in infos if "cost" in info]  # none where both are being reset
        assert costs[-1]["memory_B"].shape == (2,)

    def test_an_environment_made_before_the_fork_counts_in_the_child(self):
        env = InstrumentedEnv(gymnasium.make(TINY), [Counter(), ResidentSet()])
        _run(env, 5)
        vector = AsyncVectorEnv([lambda: env], context="fork")
        try:
            vector.reset(seed=0)
            for _ in range(30):
                vector.step(vector.action_space.sample())
            (episodes,) = vector.get_attr("episodes")
        finally:
            vector.close()
        assert len(episodes) >= 2
        assert episodes[-1].cpu_seconds < 10
        env.close()

    def test_make_rebuilds_it_from_its_spec(self):
        counter = Counter()
        env = InstrumentedEnv(gymnasium.make(HALF_CHEETAH), [counter], "light", "cost")

        rebuilt = gymnasium.make(env.spec)

        assert isinstance(rebuilt, InstrumentedEnv)
        _run(rebuilt, 64)
        assert list(rebuilt.trace.counters) == ["cpu_s", "energy_J"]
        assert np.isnan(rebuilt.trace.counters["energy_J"][63])
        assert rebuilt.step(rebuilt.action_space.sample())[4]["cost"]
        assert counter.value > 100, "the same meter, not a copy"

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
    def test_a_copy_goes_on_by_itself(self, duplicate):
        env = InstrumentedEnv(gymnasium.make(TINY), [Counter()])
        _run(env, 3)
        other = duplicate(env)
        other.step(other.action_space.sample())
        assert (len(env.trace.policy_ns), len(other.trace.policy_ns)) == (3, 4)
        assert math.isclose(other.trace.counters["energy_J"][-1], env.trace.counters["energy_J"][-1] + 2)

    def test_an_unknown_level_is_refused_with_a_suggestion(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'light'"):
            InstrumentedEnv(Endless(), level="ligth")

    def test_nothing_is_read_before_the_first_reset(self):
        absent = Absent()
        InstrumentedEnv(Endless(), [absent]).close()
        assert absent.readings == 0


class TestTrace:
    def test_full_reads_every_counter_at_every_step(self):
        env = InstrumentedEnv(Endless(), [Counter(), Gauge(5.0, 7.0)])
        _run(env, 10)
        trace = env.trace
        assert list(trace.counters) == ["cpu_s", "energy_J", "memory_B"]
        assert np.diff(trace.counters["energy_J"]).tolist() == [2.0] * 10
        assert set(trace.counters["memory_B"]) == {5.0, 7.0}
        assert (np.diff(trace.counters["cpu_s"]) >= 0).all()
        assert [len(ns) for ns in (trace.environment_ns, trace.policy_ns, trace.instrumentation_ns)] == [
            10
        ] * 3

    def test_light_reads_counters_at_every_64th_step_and_the_last(self):
        env = InstrumentedEnv(Endless(length=150), [Counter()], "light")
        _run(env, 150)
        read = np.flatnonzero(~np.isnan(env.trace.counters["energy_J"]))
        assert read.tolist() == [0, 64, 128, 150]
        assert env.episodes[0].energy_joules == 6.0
        assert len(env.trace.environment_ns) == 150

    def test_time_reads_no_counter(self):
        counter = Counter()
        env = InstrumentedEnv(Endless(length=5), [counter], "time")
        _run(env, 5)
        assert env.trace.counters == {}
        assert counter.value == 100.0
        assert (env.episodes[0].cpu_seconds, env.episodes[0].energy_joules) == (None, None)
        assert env.episodes[0].environment_seconds > 0

    def test_time_is_parted_into_environment_policy_and_instrumentation(self):
        class Slow(Counter):
            def read(self):
                time.sleep(0.004)
                return super().read()

        env = InstrumentedEnv(Endless(length=5, seconds=0.008), [Slow()])
        env.reset()
        for _ in range(5):
            time.sleep(0.002)
            env.step(np.zeros(1))
        trace, (cost,) = env.trace, env.episodes
        assert (trace.environment_ns >= 8e6).all()
        assert (trace.policy_ns >= 2e6).all()
        assert (trace.instrumentation_ns >= 4e6).all()
        assert cost.environment_seconds == pytest.approx(trace.environment_ns.sum() / 1e9)
        assert cost.policy_seconds == pytest.approx(trace.policy_ns.sum() / 1e9)
        assert cost.instrumentation_seconds == pytest.approx(trace.instrumentation_ns.sum() / 1e9)
        assert env.overhead_ns_per_step >= 4e6

    def test_a_profilers_own_reader_is_what_is_called_anew_at_each_reset(self):
        bare = Bare()
        env = InstrumentedEnv(Endless(), [bare])
        for _ in range(2):
            _run(env, 5)
            np.testing.assert_array_equal(env.trace.counters["energy_J"], [1.0, *[5.0] * 3, *[np.nan] * 2])
        assert bare.value == 100.0

    def test_storage_grows_past_its_first_size_and_loses_nothing(self):
        steps = 2 * INITIAL_STEPS + 3
        env = InstrumentedEnv(Endless(), [Counter()])
        _run(env, steps)
        assert env.trace.counters["energy_J"].tolist() == [104.0 + 2 * n for n in range(steps + 1)]
        assert (env.trace.environment_ns > 0).all()
        assert (env.trace.instrumentation_ns > 0).all()

    def test_each_episode_starts_a_trace_of_its_own(self):
        env = InstrumentedEnv(Endless(), [Counter()], "light")
        _run(env, 70)  # its last reading is at step 70, where it is cut short
        _run(env, 80)
        read = np.flatnonzero(~np.isnan(env.trace.counters["energy_J"]))
        assert read.tolist() == [0, 64], "nothing is left of the episode before"

    def test_a_trace_is_a_copy(self):
        env = InstrumentedEnv(Endless(), [Counter()])
        _run(env, 3)
        trace = env.trace
        before = trace.counters["energy_J"].copy()
        _run(env, 3)
        np.testing.assert_array_equal(trace.counters["energy_J"], before)

    def test_two_profilers_of_one_quantity_keep_apart(self):
        env = InstrumentedEnv(Endless(length=3), [Counter(1.0), Counter(3.0)])
        _run(env, 3)
        assert env.episodes[0].counters["energy_J"] == 3.0
        assert env.episodes[0].counters["energy_J_2"] == 9.0
        assert env.episodes[0].energy_joules == 3.0


class TestEpisodes:
    def test_each_is_recorded_when_it_ends(self):
        env = InstrumentedEnv(Endless(length=4), [Counter(), Gauge(1.0, 9.0, 3.0)])
        for _ in range(3):
            _run(env, 4)
        assert [(e.steps, e.finished, e.energy_joules) for e in env.episodes] == [(4, True, 8.0)] * 3
        assert {e.memory_peak_bytes for e in env.episodes} == {9.0}
        assert all(e.cpu_seconds >= 0 for e in env.episodes)

    def test_cpu_time_is_that_of_this_process(self):
        class Busy(Endless):
            def step(self, action):
                until = time.process_time() + 0.005
                while time.process_time() < until:
                    pass
                return super().step(action)

        env = InstrumentedEnv(Busy(length=6))
        _run(env, 6)
        assert 0.03 <= env.episodes[0].cpu_seconds < 0.3

    @pytest.mark.parametrize("level", ["full", "light"])
    @pytest.mark.parametrize("end", ["reset", "close"])
    def test_one_that_is_cut_short_is_recorded_as_unfinished(self, end, level):
        env = InstrumentedEnv(Endless(), [Counter()], level)
        _run(env, 10)
        getattr(env, end)()
        (cost,) = env.episodes
        assert (cost.steps, cost.finished) == (10, False)
        assert cost.energy_joules > 0

    def test_a_reset_without_steps_is_no_episode(self):
        env = InstrumentedEnv(Endless())
        for _ in range(3):
            env.reset()
        env.close()
        assert env.episodes == []

    def test_a_finished_one_is_recorded_once(self):
        env = InstrumentedEnv(Endless(length=2))
        _run(env, 2)
        env.reset()
        env.close()
        env.close()
        assert len(env.episodes) == 1

    def test_steps_after_the_end_do_not_record_it_again(self):
        class Over(Endless):
            def step(self, action):
                return *super().step(action)[:2], True, False, {}

        env = InstrumentedEnv(Over())
        _run(env, 3)
        assert [cost.steps for cost in env.episodes] == [1]

    def test_without_a_meter_energy_is_none_and_the_profiler_is_left_alone(self):
        absent = Absent()
        env = InstrumentedEnv(Endless(length=50), [absent])
        _run(env, 50)
        assert env.episodes[0].energy_joules is None
        assert absent.readings == 1
        _run(env, 1)
        assert absent.readings == 2, "it may have come back"

    def test_a_meter_that_fails_in_between_gives_none_never_a_part(self):
        class Failing(Counter):
            def read(self):
                value = super().read()
                return value if value < 110 else None

        env = InstrumentedEnv(Endless(length=10), [Failing()])
        _run(env, 10)
        assert env.episodes[0].energy_joules is None


class TestInfo:
    def test_layout(self):
        env = InstrumentedEnv(Endless(seconds=0.001), [Counter(), Gauge(5.0), Absent()], info_key="cost")
        _, reset_info = env.reset()
        infos = [env.step(np.zeros(1))[4]["cost"] for _ in range(3)]
        assert reset_info == {}
        assert [info["energy_J"] for info in infos] == [2.0, 4.0, 6.0]
        assert all(info["memory_B"] == 5.0 and info["environment_s"] >= 0.001 for info in infos)
        assert set(infos[0]) == {"environment_s", "policy_s", "cpu_s", "energy_J", "memory_B"}
        assert all(type(value) is float for info in infos for value in info.values())

    def test_what_was_not_read_is_not_there(self):
        env = InstrumentedEnv(Endless(), [Counter()], "light", "cost")
        env.reset()
        infos = [env.step(np.zeros(1))[4]["cost"] for _ in range(64)]
        assert set(infos[0]) == {"environment_s", "policy_s"}
        assert infos[63]["energy_J"] == 2.0

    def test_a_key_that_is_taken_is_refused(self):
        env = InstrumentedEnv(InstrumentedEnv(Endless(), info_key="cost"), info_key="cost")
        env.reset()
        with pytest.raises(UsageError, match="'cost' already"):
            env.step(np.zeros(1))


class TestOverhead:
    def test_nan_before_the_first_step(self):
        assert math.isnan(InstrumentedEnv(Endless()).overhead_ns_per_step)

    @pytest.mark.parametrize("level", LEVELS)
    def test_positive_and_small_beside_a_step(self, level):
        env = InstrumentedEnv(Endless(length=300), [Counter()], level)
        _run(env, 300)
        finished = env.overhead_ns_per_step
        _run(env, 100)
        assert 0 < finished < 1e6
        assert 0 < env.overhead_ns_per_step < 1e6

    def test_it_holds_the_reading_of_the_counters(self):
        class Slow(Counter):
            def read(self):
                time.sleep(0.001)
                return super().read()

        env = InstrumentedEnv(Endless(length=20), [Slow()])
        _run(env, 20)
        assert env.overhead_ns_per_step > 1e6


def test_real_profilers_on_a_real_environment():
    from compressrl_profilers.energy import EnergyProfiler
    from compressrl_profilers.latency import LatencyProfiler
    from compressrl_profilers.memory import MemoryProfiler

    env = InstrumentedEnv(
        gymnasium.make(HALF_CHEETAH), [EnergyProfiler(), MemoryProfiler(), LatencyProfiler()]
    )
    _run(env, 1000)
    (cost,) = env.episodes
    assert cost.finished
    assert cost.steps == 1000
    assert cost.cpu_seconds > 0
    assert cost.memory_peak_bytes > 10e6
    wall = cost.environment_seconds + cost.policy_seconds + cost.instrumentation_seconds
    assert cost.counters["latency_s"] == pytest.approx(wall, rel=0.01)
    if not Path("/sys/class/powercap").is_dir():
        assert cost.energy_joules is None
    travelled = pickle.loads(pickle.dumps(env))
    _run(travelled, 10)
    assert travelled.trace.counters["memory_B"].min() > 10e6
    env.close()
