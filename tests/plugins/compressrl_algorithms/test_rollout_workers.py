"""Environments stepped in one process or several: the same rollout, whatever happens to a process."""

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import gymnasium
import numpy as np
import pytest

from compressrl.errors import EnvironmentFailedError
from compressrl.lab import Lab
from compressrl.networks import layers
from compressrl_algorithms.rollout_buffer import Rollout
from compressrl_algorithms.rollout_workers import Workers

ENV = "InvertedPendulum-v5"
ONES = np.ones(4, np.float32)
# Of one product and one sum: rows do not depend on how many are multiplied together.
HALF = functools.partial(layers.forward, (layers.Linear(np.float32([[0.5, 0, 0, 0]]), np.float32([0.25])),))


def noise(count, steps=80):
    return np.random.default_rng(1).normal(0, 5, size=(steps, count, 1)).astype(np.float32)


def collected(workers, rollouts=2, count=5):
    """What these rollouts hold, and what ended in them."""
    results = []
    for _ in range(rollouts):
        rollout = Rollout.empty(80, count, 4, 1)
        results.append((rollout, workers.collect(rollout, HALF, noise(count))))
    workers.close()
    return results


class Watched(gymnasium.Wrapper):
    """Remembers actions and observations as the environment sees them."""

    def __init__(self, env):
        super().__init__(env)
        self.actions, self.seen = [], []

    def step(self, action):
        self.actions.append(action.copy())
        observation, *rest = super().step(action)
        self.seen.append(observation)
        return observation, *rest


class WatchedLab(Lab):
    def make_env(self, seed=None):
        return Watched(super().make_env(seed))


@pytest.mark.parametrize("count", [1, 3])
def test_the_rollout_records_the_observation_that_each_step_led_to(count):
    workers = Workers(WatchedLab(ENV, 0), range(count), ONES)
    rollout = Rollout.empty(80, count, 4, 1)
    ended = workers.collect(rollout, lambda x: np.zeros((len(x), 1), np.float32), noise(count))
    workers.close()
    done = rollout.terminated | rollout.truncated
    assert len(ended) == done.sum() > 3 * count
    assert sum(e.length for e in ended) + workers.group.lengths.sum() == 80 * count
    assert [e.step for e in ended] == [(t + 1) * count for t, _ in np.argwhere(done)]
    for n, env in enumerate(workers.group.envs):
        assert np.array_equal(rollout.next_observations[:, n], env.seen)
        going_on = ~done[:-1, n]
        follows = (rollout.observations[1:, n] == rollout.next_observations[:-1, n]).all(axis=1)
        assert np.array_equal(follows, going_on)
        assert np.array_equal(rollout.actions[:, n], noise(count)[:, n])
        assert np.array_equal(np.array(env.actions), np.clip(noise(count)[:, n], -3, 3))
    assert np.abs(noise(count)).max() > 3


def test_a_time_limit_is_a_truncation():
    workers = Workers(Lab("Pendulum-v1", 0), range(2), ONES[:3])
    rollout = Rollout.empty(450, 2, 3, 1)
    ended = workers.collect(rollout, lambda x: np.zeros((len(x), 1), np.float32), np.zeros((450, 2, 1)))
    workers.close()
    assert np.argwhere(rollout.truncated).tolist() == [[199, 0], [199, 1], [399, 0], [399, 1]]
    assert not rollout.terminated.any()
    totals = [rollout.rewards[:200, n].sum() for n in range(2)] + [
        rollout.rewards[200:400, n].sum() for n in range(2)
    ]
    np.testing.assert_allclose([e.episode_return for e in ended], totals)


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_the_same_rollouts_with_any_number_of_processes(processes):
    alone = collected(Workers(Lab(ENV), range(5), ONES))
    workers = Workers(Lab(ENV), range(5), ONES, processes)
    assert len(workers.others) == min(processes, 5) - 1
    together = collected(workers)
    for (one, ended), (other, ended_there) in zip(alone, together, strict=True):
        assert ended == ended_there
        assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    assert all(other.process.returncode is not None for other in workers.others)


def test_what_is_left_out_is_left_out_in_other_processes_too():
    mask = np.float32([1, 0, 1, 0])
    [(rollout, _)] = collected(Workers(Lab(ENV), range(2), mask, 2), rollouts=1, count=2)
    for seen in (rollout.observations, rollout.next_observations):
        assert seen[:, 1, [0, 2]].any(axis=0).all()
        assert not seen[:, 1, [1, 3]].any()


def test_an_environment_registered_in_this_process_only(caplog):
    gymnasium.register("OnlyHere-v0", "compressrl.testing.environments:TinyEnv", max_episode_steps=7)
    try:
        workers = Workers(Lab("OnlyHere-v0"), range(2), ONES[:3], 2)
        rollout = Rollout.empty(20, 2, 3, 2)
        first_two = layers.Linear(np.eye(2, 3, dtype=np.float32), np.zeros(2, np.float32))
        ended = workers.collect(
            rollout, functools.partial(layers.forward, (first_two,)), np.zeros((20, 2, 2))
        )
        workers.close()
    finally:
        del gymnasium.registry["OnlyHere-v0"]
    assert len(workers.others) == 1
    assert max(e.length for e in ended) == 7
    assert not caplog.records


def test_what_no_other_process_can_be_given_is_stepped_here(caplog):
    gymnasium.register("Local-v0", lambda: gymnasium.make(ENV), disable_env_checker=True)
    try:
        workers = Workers(Lab("Local-v0"), range(5), ONES, 3)
        here = collected(workers)
    finally:
        del gymnasium.registry["Local-v0"]
    assert not workers.others
    [record] = caplog.records
    assert "all environments are stepped in one process" in record.getMessage()
    there = collected(Workers(Lab(ENV), range(5), ONES))
    assert np.array_equal(here[1][0].next_observations, there[1][0].next_observations)


class Fragile(gymnasium.Wrapper):
    """Lives for some steps; a file on the disk would be the more usual reason."""

    def __init__(self, end):
        super().__init__(gymnasium.make(ENV))
        self.end, self.left = end, 30

    def step(self, action):
        self.left -= 1
        if self.left == 0:
            self.fail()
        return super().step(action)

    def fail(self):
        if self.end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("the terrain is gone")


def only_there(end):
    """An environment that fails in other processes only."""
    return Fragile(end) if os.getpid() != int(os.environ["ROLLOUT_TEST_PARENT"]) else gymnasium.make(ENV)


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """Makes this file a module that other processes find."""
    (tmp_path / "fragile_envs.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ROLLOUT_TEST_PARENT", str(os.getpid()))


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("raised", "Fragile-v0 has failed in its step: OSError: the terrain is gone."),
        (
            "killed",
            "A process that steps Fragile-v0 ended with exit status -9, perhaps for want of memory.",
        ),
    ],
)
def test_a_process_that_fails_ends_the_run_with_its_reason(importable, end, said):
    gymnasium.register("Fragile-v0", "fragile_envs:only_there", disable_env_checker=True, kwargs={"end": end})
    try:
        workers = Workers(Lab("Fragile-v0"), range(2), ONES, 2)
        with pytest.raises(EnvironmentFailedError) as raised:
            collected(workers, count=2)
        workers.close()
    finally:
        del gymnasium.registry["Fragile-v0"]
    assert str(raised.value) == said


def dead_there(end):
    """An environment that ends other processes before they are ready."""
    if os.getpid() != int(os.environ["ROLLOUT_TEST_PARENT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return gymnasium.make(ENV)


def test_a_process_that_dies_before_it_is_ready_leaves_the_environments_here(importable, caplog):
    gymnasium.register("Dead-v0", "fragile_envs:dead_there", disable_env_checker=True, kwargs={"end": ""})
    try:
        workers = Workers(Lab("Dead-v0"), range(2), ONES, 2)
        collected(workers, count=2)
    finally:
        del gymnasium.registry["Dead-v0"]
    assert not workers.others
    [record] = caplog.records
    assert record.getMessage().endswith("ended with exit status -9, perhaps for want of memory.")


def test_other_processes_end_with_this_one():
    script = """
        import os, signal
        import numpy as np
        from compressrl.lab import Lab
        from compressrl_algorithms.rollout_workers import Workers
        workers = Workers(Lab("InvertedPendulum-v5"), range(2), np.ones(4, np.float32), 2)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    # This waits until nobody has stderr any more, which they share.
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
