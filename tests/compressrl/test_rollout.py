"""Rollouts: seeded, counted rightly, and closed whatever happens."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from compressrl import environments, rollout
from compressrl.errors import EnvironmentUnavailableError
from compressrl.instrument import InstrumentedEnv
from compressrl.testing import TINY, tiny_policy


class Scripted(gymnasium.Env[np.ndarray, np.ndarray]):
    """Pays 1, 2, 3, ... and ends after as many steps as the seed says: even seeds terminate, odd truncate."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.closed, self.resets = 0, []

    def reset(self, *, seed=None, options=None):
        self.resets.append(seed)
        self.length, self.step_number = seed, 0
        return self._observation(), {}

    def step(self, action):
        self.step_number += 1
        ends = self.step_number == self.length
        even = self.length % 2 == 0
        return self._observation(), float(self.step_number), ends and even, ends and not even, {}

    def close(self):
        self.closed += 1

    def _observation(self):
        return np.array([self.resets[-1], self.step_number], np.float32)


def test_returns_lengths_and_action_changes_are_those_of_the_episodes():
    env, heard = Scripted(), []
    actions = {1: [0.0, 0.0], 2: [1.0, 0.0], 3: [1.0, 0.5]}

    def act(observation):
        return np.array(actions.get(int(observation[1]) + 1, [0.0, 0.0]), np.float32)

    records = rollout.run_episodes(act, lambda: env, [3, 1, 4], lambda done, mean: heard.append((done, mean)))
    assert records.seeds == (3, 1, 4)
    assert records.lengths == (3, 1, 4)
    assert records.returns == (6, 1, 10)
    # Means over two actions: 0.5, then 0.25; in the last episode 0.75 more, over three changes.
    assert records.action_changes == pytest.approx((0.375, 0, 0.5))
    assert heard == [(1, 6), (2, 3.5), (3, pytest.approx(17 / 3))]
    assert (env.resets, env.closed) == ([3, 1, 4], 1)


def test_a_runtime_that_reuses_its_array_still_shows_its_changes():
    buffer = np.zeros(2, np.float32)

    def act(observation):
        buffer[:] = observation[1]
        return buffer

    assert rollout.run_episodes(act, Scripted, [4]).action_changes == (1,)


def test_the_environment_is_closed_when_the_policy_fails():
    env = Scripted()
    for run in (
        lambda: rollout.run_episodes(lambda _: 1 / 0, lambda: env, [3]),
        lambda: rollout.visited_states(lambda _: 1 / 0, lambda: env, 3, np.random.default_rng(0)),
    ):
        with pytest.raises(ZeroDivisionError):
            run()
    assert env.closed == 2


def test_visited_states_are_those_acted_on_episode_after_episode():
    class Short(Scripted):
        def reset(self, *, seed=None, options=None):
            observation, info = super().reset(seed=seed)
            self.length = 2
            return observation, info

    acted_on = []

    def act(observation):
        acted_on.append(observation.copy())
        return np.zeros(2, np.float32)

    states = rollout.visited_states(act, Short, 5, np.random.default_rng(0))
    assert states.shape == (5, 2)
    assert states.dtype == np.float32
    np.testing.assert_array_equal(states, acted_on)
    assert states[:, 1].tolist() == [0, 1, 0, 1, 0]
    assert len({*states[:, 0]}) == 3, "each episode has a seed of its own"


@pytest.mark.parametrize("env_id", [TINY, "InvertedPendulum-v5"])
def test_the_same_seeds_give_the_same_episodes(env_id):
    env = environments.make(env_id)
    space = env.action_space

    def act(observation):
        return np.full(space.shape, np.tanh(observation.sum()), np.float32)

    def returns(seeds):
        return rollout.run_episodes(act, lambda: environments.make(env_id), seeds).returns

    first = returns([1, 2, 3])
    assert first == returns([1, 2, 3])
    assert returns([3])[0] == first[2], "an episode does not depend on those before it"
    assert len(set(first)) == 3


def test_a_policy_is_a_function_to_roll_out():
    records = rollout.run_episodes(tiny_policy(), lambda: environments.make(TINY), [0, 1])
    assert all(1 <= length <= 25 for length in records.lengths)
    assert all(0 < r <= 25 for r in records.returns)


def test_an_instrumented_environment_says_what_each_episode_cost():
    def instrumented():
        return InstrumentedEnv(Scripted(), level="full")

    records = rollout.run_episodes(lambda _: np.zeros(2, np.float32), instrumented, [3, 1])
    assert [cost.steps for cost in records.costs] == [3, 1]
    assert all(cost.finished and cost.cpu_seconds > 0 for cost in records.costs)
    plain = rollout.run_episodes(lambda _: np.zeros(2, np.float32), Scripted, [3, 1])
    assert plain.costs == ()
    assert plain == records


def test_an_episode_that_never_ends_is_told(monkeypatch):
    monkeypatch.setattr(rollout, "LONGEST_EPISODE", 50)
    env = Scripted()
    with pytest.raises(EnvironmentUnavailableError, match=r"not ended after 50 steps.*max_episode_steps"):
        rollout.run_episodes(lambda _: np.zeros(2, np.float32), lambda: env, [60])
    assert env.closed == 1
    limited = gymnasium.wrappers.TimeLimit(Scripted(), 60)
    limited.unwrapped.spec = gymnasium.spec("Pendulum-v1")
    assert rollout.run_episode(lambda _: np.zeros(2, np.float32), limited, 70).length == 60
