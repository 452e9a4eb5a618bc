"""One policy, N seeded episodes: returns, lengths, visited states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from compressrl.environments import Env
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.records import EpisodeRecords

MakeEnv = Callable[[], Env]


def _nobody(done: int, mean_return: float) -> None:
    pass


def run_episodes(
    act: PolicyFunction,
    make_env: MakeEnv,
    seeds: Sequence[int],
    on_episode: Callable[[int, float], None] = _nobody,
) -> EpisodeRecords:
    """Run one episode for each seed, in order, in one environment.

    The environment is reset with the episode's seed, so that two policies meet the same initial states.
    `on_episode` hears how many episodes are finished and their mean return so far.
    """
    env = make_env()
    returns, lengths, changes = [], [], []
    try:
        for seed in seeds:
            episode_return, length, change = _run_episode(act, env, seed)
            returns.append(episode_return)
            lengths.append(length)
            changes.append(change)
            on_episode(len(returns), fmean(returns))
    finally:
        env.close()
    return EpisodeRecords(tuple(seeds), tuple(returns), tuple(lengths), tuple(changes))


def _run_episode(act: PolicyFunction, env: Env, seed: int) -> tuple[float, int, float]:
    """Return, length, and mean absolute action change per step (environment units)."""
    observation, _ = env.reset(seed=seed)
    total, length, change = 0.0, 0, 0.0
    previous: Float32Array | None = None
    while True:
        action = act(observation)
        if previous is not None:
            change += float(np.abs(action - previous).mean())
        previous = np.array(action)  # a runtime may write its next action into the same array
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        length += 1
        if terminated or truncated:
            return total, length, change / max(length - 1, 1)


def visited_states(
    act: PolicyFunction, make_env: MakeEnv, steps: int, rng: np.random.Generator
) -> Float32Array:
    """Observations (steps, observation_size) that the policy acts on, episode after episode."""
    env = make_env()
    states = []
    try:
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        for _ in range(steps):
            states.append(observation)
            observation, _, terminated, truncated, _ = env.step(act(observation))
            if terminated or truncated:
                observation, _ = env.reset(seed=int(rng.integers(2**31)))
    finally:
        env.close()
    return np.stack(states)
