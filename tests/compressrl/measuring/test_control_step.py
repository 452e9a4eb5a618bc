"""The parts of a control step, from real loops whose parts take known times."""

import time

import gymnasium
import numpy as np
import pytest

from compressrl.instrument import InstrumentedEnv
from compressrl.measuring import control_step

MS = 1000.0  # µs


class Slow(gymnasium.Env):
    """A step takes 0.4 ms; episodes end after 70 steps, across the blocks."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self):
        self.steps, self.closed, self.resets = 0, False, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.resets += 1
        return np.zeros(1, np.float32), {}

    def step(self, action):
        _spin(0.4)
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, self.steps == 70, False, {}

    def close(self):
        self.closed = True


class Meter:
    quantity, unit = "energy", "J"

    def available(self):
        return True, "a meter"

    def read(self):
        _spin(0.1)
        return 1.0


def _spin(ms):
    until = time.perf_counter() + ms / 1000
    while time.perf_counter() < until:
        pass


def _policy(ms, calls, name):
    """Every 41st call is held up for 20 ms, which adds half a millisecond to the mean."""

    def act(observation):
        calls.append(name)
        _spin(20 if len(calls) % 41 == 0 else ms)
        return np.zeros(1, np.float32)

    return act


def test_each_part_is_that_of_a_typical_step_and_hiccups_do_not_move_it():
    calls = []
    envs = [InstrumentedEnv(Slow(), [Meter()]), InstrumentedEnv(Slow(), [], "time")]
    slow, fast = control_step.measure(
        [(_policy(0.2, calls, "slow"), envs[0]), (_policy(0.1, calls, "fast"), envs[1])], seed=0
    )

    # A spin ends late on a busy machine, never early.
    assert 0.2 * MS <= slow.policy_us < 0.5 * MS
    assert 0.1 * MS <= fast.policy_us < 0.2 * MS
    assert 0.4 * MS <= slow.environment_us < 0.8 * MS
    assert 0.1 * MS <= slow.instrumentation_us < 0.3 * MS
    assert fast.instrumentation_us < 0.05 * MS
    assert slow.total_us == slow.policy_us + slow.environment_us + slow.instrumentation_us
    assert slow.steps == fast.steps == 1000 == calls.count("slow") == calls.count("fast")
    turns = [calls[i] for i in range(0, 2000, control_step.BLOCK)]
    assert turns == ["slow", "fast", "fast", "slow"] * 10, "a drift of the machine hits both alike"
    assert all(env.unwrapped.closed and env.unwrapped.resets == 15 for env in envs)


def test_environments_are_closed_when_a_policy_fails():
    def broken(observation):
        raise ZeroDivisionError

    env = InstrumentedEnv(Slow())
    with pytest.raises(ZeroDivisionError):
        control_step.measure([(broken, env)], seed=0)
    assert env.unwrapped.closed
