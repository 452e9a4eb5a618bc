"""What is repeated in a window: decisions of a policy, control steps of an environment, or both."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from compressrl.interfaces import Float32Array, PolicyFunction, Workload

if TYPE_CHECKING:
    from compressrl.environments import Env

CHUNK_SECONDS = 0.002  # between two readings of the meters: RAPL moves about once a millisecond
EPISODE_SEED = 0
LONGEST_EPISODE = 1000


class Work:
    """An endless row of steps; a call takes the next `chunk` of them and returns that number."""

    def __init__(self, steps: Iterator[object]) -> None:
        self.chunk = 1
        self._steps = steps

    def __call__(self) -> int:
        deque(itertools.islice(self._steps, self.chunk), maxlen=0)  # the fastest way to use an iterator up
        return self.chunk

    def fit_chunk(self, steps_per_second: float) -> None:
        """Choose how many steps pass between two readings of the meters."""
        self.chunk = max(1, round(CHUNK_SECONDS * steps_per_second))


def decisions(workload: Workload) -> Work:
    """(A) The policy on recorded observations, batch 1, over and over."""
    return Work(map(workload.function, itertools.cycle(list(workload.observations))))


def control_steps(env: Env, actions: Float32Array, policy: PolicyFunction | None = None) -> Work:
    """(B) The environment on recorded actions; with a policy (C) both.

    The policy decides on every observation, but the recorded actions (T, action_size) are taken: whatever it
    decides, the environment does the same work.
    """
    return Work(_control(env, actions, policy))


def record_actions(env: Env, policy: PolicyFunction) -> Float32Array:
    """Actions (T, action_size) of the policy in one episode, at most `LONGEST_EPISODE` steps of it."""
    actions: list[Float32Array] = []
    observation, _ = env.reset(seed=EPISODE_SEED)
    ended = False
    while not ended and len(actions) < LONGEST_EPISODE:
        actions.append(np.array(policy(observation), np.float32))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
        ended = terminated or truncated
    return np.stack(actions)


def _control(env: Env, actions: Float32Array, policy: PolicyFunction | None) -> Iterator[None]:
    rows = list(actions)
    while True:
        observation, _ = env.reset(seed=EPISODE_SEED)
        for action in rows:
            if policy is not None:
                policy(observation)
            observation, _, terminated, truncated, _ = env.step(action)
            yield
            if terminated or truncated:
                break
