"""What a window repeats: the policy (A), the environment (B), both (C)."""

import numpy as np
import pytest

from compressrl import environments
from compressrl.interfaces import Workload
from compressrl.testing import TINY, tiny_policy
from compressrl.testing.runtimes import ReferenceRuntime
from compressrl_profilers.work import Work, control_steps, decisions, record_actions


@pytest.fixture
def env():
    made = environments.make(TINY)
    yield made
    made.close()


class _Recorder:
    """A policy, or an environment, that remembers what it was given."""

    def __init__(self, env):
        self._env = env
        self.actions, self.resets = [], 0

    def reset(self, seed):
        self.resets += 1
        return self._env.reset(seed=seed)

    def step(self, action):
        self.actions.append(np.array(action))
        return self._env.step(action)


def test_decisions_take_the_observations_in_turn():
    seen = []
    observations = np.arange(3, dtype=np.float32)[:, None]
    workload = Workload("", tiny_policy(), "", "", {}, lambda o: seen.append(float(o[0])), observations)
    work = decisions(workload)
    work.chunk = 5
    assert work() == 5
    assert work() == 5
    assert seen == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_the_chunk_fits_the_time_between_two_readings():
    work = Work(iter([]))
    work.fit_chunk(20_000)
    assert work.chunk == 40
    work.fit_chunk(3)
    assert work.chunk == 1


def test_the_environment_repeats_the_recorded_episode_whatever_the_policy_decides(env):
    policy = ReferenceRuntime().load(tiny_policy())
    actions = record_actions(env, policy)
    assert actions.dtype == np.float32
    seen = []

    def other(observation):
        seen.append(np.array(observation))
        return np.zeros(2, np.float32)

    recorder = _Recorder(env)
    work = control_steps(recorder, actions, other)
    work.chunk = 2 * len(actions) + 1
    assert work() == 2 * len(actions) + 1

    assert recorder.resets == 3
    np.testing.assert_array_equal(recorder.actions, [*actions, *actions, actions[0]])
    np.testing.assert_array_equal([policy(observation) for observation in seen[: len(actions)]], actions)
    np.testing.assert_array_equal(seen[: len(actions)], seen[len(actions) : 2 * len(actions)])


def test_an_environment_that_ends_earlier_starts_again(env):
    class EndsAfterThree(_Recorder):
        def step(self, action):
            observation, reward, _, truncated, info = super().step(action)
            return observation, reward, len(self.actions) % 3 == 0, truncated, info

    recorder = EndsAfterThree(env)
    work = control_steps(recorder, np.zeros((10, 2), np.float32))
    work.chunk = 7
    work()
    assert recorder.resets == 3
