"""Episodes by one process or several: the same, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import gymnasium
import numpy as np
import pytest

from compressrl import environments, plugins
from compressrl.episodes import episode_pool
from compressrl.episodes.episode_pool import play_all
from compressrl.episodes.episode_worker import Equipment, Stage
from compressrl.errors import EnvironmentFailedError
from compressrl.instrument import InstrumentedEnv
from compressrl.testing import TINY, tiny_policy

SEEDS = range(100, 112)


@pytest.fixture
def eager(monkeypatch):
    """Workers start after the first episode, however short the rest is."""
    monkeypatch.setattr(episode_pool, "WORTH_SECONDS", 0.0)


def equip(env_id=TINY, runtime="onnx", policies=None, level="full"):
    """Two policies in a stage, and what another process makes the same stage of."""
    engine = plugins.create("runtime", runtime)
    policies = policies or [tiny_policy("graph"), tiny_policy("graph", seed=1)]
    spec = gymnasium.registry.get(env_id.rpartition(":")[2])
    equipment = Equipment(env_id, spec, engine, policies, (), level, SEEDS)
    env = InstrumentedEnv(environments.make(env_id), level=level)
    return Stage(env, [engine.load(policy) for policy in policies], SEEDS), equipment


def play(workers, **options):
    return play_all(*equip(**options), workers, lambda number, episode: None)


def without_costs(episodes):
    return [episode._replace(cost=None) for episode in episodes]


@pytest.fixture
def alone():
    return without_costs(play(1))


@pytest.mark.parametrize("workers", [2, 3])
def test_the_same_episodes_with_any_number_of_workers(eager, alone, workers, monkeypatch):
    started = []
    start = episode_pool._start
    monkeypatch.setattr(episode_pool, "_start", lambda queue: started.append(queue) or start(queue))
    heard = {}
    stage, equipment = equip()
    # This process is slow, so that workers get their share.
    slow = Slow(stage.env, stage.functions, stage.seeds)
    episodes = play_all(slow, equipment, workers, heard.__setitem__)
    assert without_costs(episodes) == alone
    assert [heard[number] for number in range(24)] == episodes
    assert [episode.cost.steps for episode in episodes] == [episode.length for episode in episodes]
    assert len(started) == workers - 1
    assert len(slow.played) < 24, "no worker has delivered anything"


class Slow(Stage):
    """A stage that gives the workers time to start."""

    @property
    def played(self):
        return self.__dict__.setdefault("_played", [])

    def play(self, number):
        self.played.append(number)
        time.sleep(0.4 if len(self.played) > 1 else 0)
        return super().play(number)


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Humanoid-v5"])
def test_mujoco_keeps_nothing_from_episode_to_episode(env_id):
    env = environments.make(env_id)
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.1, (env.action_space.shape[0], env.observation_space.shape[0])).astype(
        np.float32
    )
    stage = Stage(InstrumentedEnv(env, level="time"), [lambda x: np.tanh(weights @ x)], range(6))
    forward = [stage.play(number)[:3] for number in range(6)]
    backward = [stage.play(number)[:3] for number in reversed(range(6))]
    assert forward == backward[::-1]


def test_few_short_episodes_start_no_process(alone, monkeypatch):
    monkeypatch.setattr(episode_pool, "_start", None)
    assert without_costs(play(3)) == alone


def test_an_environment_registered_in_this_process_only(eager, caplog):
    gymnasium.register(
        "OnlyHere-v0", entry_point="compressrl.testing.environments:TinyEnv", max_episode_steps=7
    )
    try:
        stage, equipment = equip("OnlyHere-v0")
        slow = Slow(stage.env, stage.functions, stage.seeds)
        episodes = play_all(slow, equipment, 2, lambda *_: None)
        assert max(episode.length for episode in episodes) == 7
        assert len(slow.played) < 24
        assert not caplog.records
    finally:
        del gymnasium.registry["OnlyHere-v0"]


def test_what_no_other_process_can_be_given_runs_here(eager, alone, caplog):
    gymnasium.register(
        "Local-v0", entry_point=lambda: environments.make(TINY).unwrapped, max_episode_steps=25
    )
    try:
        assert without_costs(play(3, env_id="Local-v0")) == alone
    finally:
        del gymnasium.registry["Local-v0"]
    [record] = caplog.records
    assert "all episodes run in one process" in record.getMessage()


class Unknown:
    """A runtime of a module that a worker cannot import."""

    def load(self, policy):
        return policy


def test_a_worker_that_cannot_begin_is_said_once(eager, caplog, monkeypatch):
    stage, equipment = equip()
    monkeypatch.setitem(sys.modules, "only_here", type(sys)("only_here"))
    sys.modules["only_here"].Unknown = Unknown
    monkeypatch.setattr(Unknown, "__module__", "only_here")
    slow = Slow(stage.env, stage.functions, range(100, 103))
    broken = Equipment(TINY, equipment.spec, Unknown(), equipment.policies, (), "full", range(100, 103))
    episodes = play_all(slow, broken, 2, lambda *_: None)
    assert len(episodes) == len(slow.played) == 6
    [record] = caplog.records
    assert "cannot go on, this process takes over" in record.getMessage()
    assert "only_here" in record.getMessage()


MODULE = """
    import os
    import gymnasium
    from compressrl.testing.environments import TinyEnv

    class Moody(TinyEnv):
        def reset(self, *, seed=None, options=None):
            if {condition}:
                {deed}
            return super().reset(seed=seed, options=options)

    gymnasium.register("Moody-v0", entry_point=Moody, max_episode_steps=25)
"""


@pytest.fixture
def moody(tmp_path, monkeypatch):
    def make(condition, deed):
        (tmp_path / "moody.py").write_text(dedent(MODULE.format(condition=condition, deed=deed)))
        monkeypatch.syspath_prepend(str(tmp_path))
        return "moody:Moody-v0"

    yield make
    gymnasium.registry.pop("Moody-v0", None)
    sys.modules.pop("moody", None)


def test_the_episode_of_a_worker_that_died_is_run_here(eager, alone, moody, caplog):
    env_id = moody(f"os.getpid() != {os.getpid()} and seed == 105", "os.kill(os.getpid(), 9)")
    stage, equipment = equip(env_id)
    episodes = play_all(Slow(stage.env, stage.functions, stage.seeds), equipment, 3, lambda *_: None)
    assert without_costs(episodes) == alone
    assert {record.getMessage() for record in caplog.records} == {
        "warning: a worker process died (exit status -9); its episode is run again"
    }


def test_an_error_of_the_environment_surfaces_as_it_would_without_workers(eager, moody, caplog):
    env_id = moody(f"os.getpid() != {os.getpid()} or seed == 111", 'raise ValueError("moody")')
    stage, equipment = equip(env_id)
    with pytest.raises(EnvironmentFailedError, match=r"has failed in its reset: ValueError: moody\."):
        play_all(Slow(stage.env, stage.functions, stage.seeds), equipment, 2, lambda *_: None)
    assert "ValueError: moody" in caplog.text


def test_printing_environments_do_not_reach_stdout(eager, moody, capfd):
    env_id = moody("True", 'print("hello", os.getpid(), flush=True)')
    stage, equipment = equip(env_id)
    play_all(Slow(stage.env, stage.functions, stage.seeds), equipment, 2, lambda *_: None)
    out, err = capfd.readouterr()
    assert "hello" in err
    assert {line.split()[1] for line in out.splitlines()} == {str(os.getpid())}


SCRIPT = """
import compressrl.episodes.episode_pool, sys
from tests_equip import equip, play_all
compressrl.episodes.episode_pool.WORTH_SECONDS = 0.0
stage, equipment = equip()
play_all(stage, equipment, 3, lambda number, episode: print(number, flush=True))
"""
EQUIP = """
import time
import gymnasium
from compressrl import environments, plugins
from compressrl.episodes.episode_pool import play_all
from compressrl.episodes.episode_worker import Equipment, Stage
from compressrl.instrument import InstrumentedEnv
from compressrl.testing import tiny_policy
from compressrl.testing.environments import TinyEnv

class Slow(TinyEnv):
    def step(self, action):
        time.sleep(0.02)
        return super().step(action)

gymnasium.register("Slow-v0", entry_point=Slow, max_episode_steps=25)

def equip():
    engine = plugins.create("runtime", "onnx")
    policies, seeds = [tiny_policy("graph")], range(1000)
    spec = gymnasium.registry["Slow-v0"]
    env = InstrumentedEnv(environments.make("Slow-v0"), level="time")
    return (
        Stage(env, [engine.load(policies[0])], seeds),
        Equipment("Slow-v0", spec, engine, policies, (), "time", seeds),
    )
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_do_not_outlive_this_process(number, tmp_path):
    (tmp_path / "tests_equip.py").write_text(EQUIP)
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", tmp_path / "script.py"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    shown = [process.stdout.readline() for _ in range(20)]
    assert all(shown)
    workers = children(process.pid)
    assert len(workers) == 2
    # Ctrl-C reaches everything in the terminal's foreground.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert err.count("Traceback") == (number == signal.SIGINT), "the script's own, and none of a worker"
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_queue_gives_each_number_once(monkeypatch):
    monkeypatch.setattr(episode_pool, "BATCHES", 4)
    for numbers in (range(1, 2), range(3, 14), range(5, 9)):
        queue = episode_pool._queue(numbers)
        first, second, taken = queue.take(), queue.take(), []
        for take in (first, second) * len(numbers):
            taken += [number for number in [next(take, None)] if number is not None]
        os.close(queue.pipe)
        assert sorted(taken) == list(numbers)


def test_available_cores_are_those_of_the_affinity():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, [min(allowed)])
        assert episode_pool.available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert episode_pool.available_cores() == len(allowed)
