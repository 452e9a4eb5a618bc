"""Evaluations of a run played by one process or several: the same, whatever happens to one."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import gymnasium
import pytest
import torch
from torch import nn

from compressrl.environments import make
from compressrl.episodes import players
from compressrl.episodes.players import Players
from compressrl.policy import Policy
from compressrl.rollout import run_episodes
from compressrl.testing import TINY, tiny_policy

SEEDS = (7, 3, 5, 11, 2)


def played(processes, env_id=TINY, seeds=SEEDS, policies=()):
    """Two evaluations, and what there was of other processes then."""
    with Players(env_id, processes) as several:
        records = [several.play(policy, seeds) for policy in policies or (tiny_policy(), tiny_policy(seed=1))]
        others = list(several.others)
    assert all(other.process.returncode is not None for other in others)
    return records, len(others)


@pytest.fixture
def alone():
    return [
        run_episodes(policy, lambda: make(TINY), SEEDS) for policy in (tiny_policy(), tiny_policy(seed=1))
    ]


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_the_same_episodes_with_any_number_of_processes(alone, processes, caplog):
    assert played(processes) == (alone, processes - 1)
    assert not caplog.records


def test_processes_start_with_the_first_evaluation():
    with Players(TINY, 3) as several:
        assert several.others == []
        several.play(tiny_policy(), SEEDS)
        first = [other.process.pid for other in several.others]
        several.play(tiny_policy(), SEEDS)
        assert [other.process.pid for other in several.others] == first


def test_others_play_their_share(monkeypatch):
    here = []
    plain = Players._play_here
    monkeypatch.setattr(Players, "_play_here", lambda *a: here.extend(a[2]) or plain(*a))
    played(2)
    assert here == [7, 5, 2] * 2


def test_an_environment_registered_in_this_process_only(caplog):
    gymnasium.register("OnlyHere-v0", "compressrl.testing.environments:TinyEnv", max_episode_steps=7)
    try:
        records, others = played(2, "OnlyHere-v0")
    finally:
        del gymnasium.registry["OnlyHere-v0"]
    assert others == 1
    assert max(records[0].lengths) == 7
    assert not caplog.records


def told(caplog):
    [record] = caplog.records
    return record.getMessage().partition("warning: evaluations are played in one process from now on: ")[2]


def test_what_no_other_process_can_be_given_is_played_here(alone, caplog):
    gymnasium.register("Local-v0", lambda: gymnasium.make(TINY), disable_env_checker=True)
    try:
        assert played(3, "Local-v0") == (alone, 0)
    finally:
        del gymnasium.registry["Local-v0"]
    assert "pickle" in told(caplog)


class Crooked(nn.Module):
    """Of a local class, and so nothing that can be pickled, once `bend` is there."""

    def forward(self, x):
        return torch.tanh(x[:, :2])


def test_a_policy_that_cannot_be_pickled_is_played_here(caplog):
    blank = tiny_policy()
    module = Crooked()
    module.bend = lambda x: x
    policy = Policy(TINY, "", blank.observation_size, blank.action_low, blank.action_high, ())
    policy = policy.with_network(module, "crooked")
    [records], others = played(2, policies=[policy])
    assert records == run_episodes(policy, lambda: make(TINY), SEEDS)
    assert others == 0
    assert "pickle" in told(caplog)


class Fragile(gymnasium.Wrapper):
    """Lives for some steps; a file on the disk would be the more usual reason."""

    def __init__(self, end):
        super().__init__(gymnasium.make(TINY))
        self.end, self.left = end, 5

    def step(self, action):
        self.left -= 1
        if self.left == 0 and self.end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.left == 0:
            raise OSError("the terrain is gone")
        return super().step(action)


def only_there(end):
    """An environment that fails in other processes only."""
    return Fragile(end) if os.getpid() != int(os.environ["PLAYERS_TEST_PARENT"]) else gymnasium.make(TINY)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("raised", "Fragile-v0 has failed in its step: OSError: the terrain is gone."),
        ("killed", "it ended with exit status -9"),
    ],
)
def test_a_process_that_fails_costs_no_episode(alone, tmp_path, monkeypatch, caplog, end, said):
    (tmp_path / "fragile_env.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PLAYERS_TEST_PARENT", str(os.getpid()))
    gymnasium.register("Fragile-v0", "fragile_env:only_there", disable_env_checker=True, kwargs={"end": end})
    try:
        assert played(3, "Fragile-v0") == (alone, 0)
    finally:
        del gymnasium.registry["Fragile-v0"]
    assert told(caplog) == said


def test_an_error_here_is_an_error_and_ends_the_others(monkeypatch):
    started, start = [], players._Player
    monkeypatch.setattr(players, "_Player", lambda env_id: started.append(start(env_id)) or started[-1])
    with pytest.raises(ValueError, match="broadcast"), Players("HalfCheetah-v5", 2) as several:
        several.play(tiny_policy(), SEEDS)
    [other] = started
    assert other.process.returncode is not None


def test_other_processes_end_with_this_one():
    script = """
        import os, signal
        from compressrl.episodes.players import Players
        from compressrl.testing import TINY, tiny_policy
        with Players(TINY, 2) as players:
            players.play(tiny_policy(), range(4))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    # This waits until nobody has stderr any more, which they share.
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
