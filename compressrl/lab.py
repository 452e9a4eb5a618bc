"""What an algorithm or compressor may use: environments, states, rollouts, training, budget, progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from compressrl import environments, rollout
from compressrl.errors import EnvironmentUnavailableError, PipelineError
from compressrl.progress import Progress, silent
from compressrl.training import TrainingSession

if TYPE_CHECKING:
    import gymnasium
    from torch import nn

    from compressrl.interfaces import Algorithm, Float32Array
    from compressrl.policy import Policy
    from compressrl.records import EpisodeRecords


@dataclass(frozen=True)
class Budget:
    """What a compressor may spend. None: as much as its own default asks for."""

    environment_steps: int | None = None
    seconds: float | None = None


@dataclass
class Lab:
    """The workplace of one algorithm or one pipeline in one environment.

    env_id:    Gymnasium environment id
    seed:      everything random derives from it
    baseline:  the policy before the pipeline; None while an algorithm trains
    algorithm: learns further in this environment (`train`); None where the policy came without one
    training:  what an algorithm needs while it trains; a plain session of 0 steps elsewhere
    """

    env_id: str
    seed: int = 0
    baseline: Policy | None = None
    algorithm: Algorithm | None = None
    training: TrainingSession = field(default_factory=TrainingSession)
    budget: Budget = field(default_factory=Budget)
    progress: Progress = silent
    environment_steps_used: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def make_env(self, seed: int | None = None) -> gymnasium.Env[Float32Array, Float32Array]:
        """A fresh environment; its action space, and its first reset, are seeded where a seed is given."""
        return environments.make(self.env_id, seed)

    def check_fits(self, policy: Policy) -> None:
        """Raise EnvironmentUnavailableError when the policy's sizes are not those of the environment."""
        env = self.make_env()
        sizes = (env.observation_space.shape, env.action_space.shape)
        env.close()
        if sizes != ((policy.observation_size,), (policy.action_size,)):
            raise EnvironmentUnavailableError(
                f"The policy takes {policy.observation_size} observations and gives {policy.action_size} "
                f"actions (trained for {policy.env_id}), but {self.env_id} has {sizes[0]} and {sizes[1]}. "
                "Choose a fitting --env."
            )

    def collect(self, policy: Policy, steps: int) -> Float32Array:
        """Observations (steps, observation_size) float32 that the policy visits, episode after episode.

        Every call draws fresh episode seeds from `rng`, apart from those of any evaluation.
        """
        self.environment_steps_used += steps
        return rollout.visited_states(policy, self.make_env, steps, self.rng)

    def rollout(self, policy: Policy, episodes: int, seeds: Sequence[int] | None = None) -> EpisodeRecords:
        """Returns and lengths of `episodes` episodes on fresh seeds drawn from `rng`, or on these `seeds`."""
        if seeds is None:
            seeds = [int(s) for s in self.rng.integers(2**31, size=episodes)]
        records = rollout.run_episodes(policy, self.make_env, seeds)
        self.environment_steps_used += sum(records.lengths)
        return records

    def train(
        self,
        steps: int,
        start: Policy | None = None,
        adapt_actor: Callable[[nn.Module], nn.Module] | None = None,
    ) -> Policy:
        """Train by the policy's own algorithm and return the new policy.

        steps:       environment steps to spend
        start:       policy whose network the actor starts from; None starts from fresh weights
        adapt_actor: applied to the actor's network once, before the first step (fake quantization)
        """
        if self.algorithm is None:
            named = self.baseline.algorithm if self.baseline else ""
            problem = f"that algorithm, {named!r}, is not installed" if named else "the policy names none"
            raise PipelineError(
                f"This step trains further by the policy's algorithm, but {problem}. Give --algo to evaluate."
            )
        session = TrainingSession(steps=steps, start=start, progress=self.progress)
        if adapt_actor is not None:
            session = replace(session, adapt_actor=adapt_actor)
        self.environment_steps_used += steps
        return self.algorithm.train(replace(self, training=session, baseline=None))
