"""One policy, N seeded episodes: returns, lengths, visited states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from compressrl.environments import Env
from compressrl.errors import EnvironmentUnavailableError
from compressrl.instrument import InstrumentedEnv
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.measuring.step_costs import EpisodeCost
from compressrl.records import EpisodeRecords

MakeEnv = Callable[[], Env]
LONGEST_EPISODE = 100_000  # steps, of an environment without a time limit


def _nobody(done: int, mean_return: float) -> None:
    pass


class Episode(NamedTuple):
    """A finished episode; the fields are those of `EpisodeRecords`."""

    total: float
    length: int
    action_change: float
    cost: EpisodeCost | None = None


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
    episodes: list[Episode] = []
    try:
        for seed in seeds:
            episodes.append(run_episode(act, env, seed))
            on_episode(len(episodes), fmean(episode.total for episode in episodes))
    finally:
        env.close()
    return collect(seeds, episodes)


def run_episode(act: PolicyFunction, env: Env, seed: int) -> Episode:
    """Run the episode of this seed; its cost is known where the environment is an `InstrumentedEnv`."""
    observation, _ = env.reset(seed=seed)
    step, total, done = env.step, 0.0, False
    actions: list[Float32Array] = []
    while not done:
        if len(actions) == LONGEST_EPISODE and not (env.spec and env.spec.max_episode_steps):
            raise EnvironmentUnavailableError(
                f"An episode has not ended after {LONGEST_EPISODE:,} steps. Register the environment with "
                "max_episode_steps=..., which ends it there."
            )
        action = act(observation)
        actions.append(action.copy())  # a runtime may write its next action into the same array
        observation, reward, terminated, truncated, _ = step(action)
        total += float(reward)
        done = terminated or truncated
    rows = np.concatenate(actions).reshape(len(actions), -1)
    changes = np.abs(np.diff(rows, axis=0))
    cost = env.episodes[-1] if isinstance(env, InstrumentedEnv) else None
    return Episode(total, len(actions), float(changes.mean()) if len(changes) else 0.0, cost)


def collect(seeds: Sequence[int], episodes: Sequence[Episode]) -> EpisodeRecords:
    """The records of these episodes, in the order of their seeds."""
    return EpisodeRecords(
        seeds=tuple(seeds),
        returns=tuple(episode.total for episode in episodes),
        lengths=tuple(episode.length for episode in episodes),
        action_changes=tuple(episode.action_change for episode in episodes),
        costs=tuple(episode.cost for episode in episodes if episode.cost is not None),
    )


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
