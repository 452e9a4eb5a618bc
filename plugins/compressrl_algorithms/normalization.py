"""Running means and variances: what observations are standardised and rewards are scaled by."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressrl.interfaces import Float32Array

EPSILON = 1e-8
CLIP = 10.0


class RunningMoments:
    """Mean and variance of everything seen so far, merged batch by batch.

    mean, variance: float64, of the given shape; 0 and 1 before the first update
    count:          samples seen
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.mean: NDArray[np.float64] = np.zeros(shape)
        self.variance: NDArray[np.float64] = np.ones(shape)
        self.count = 0

    def update(self, samples: NDArray[Any]) -> None:
        """Merge samples (n, *shape), n > 0: Chan, Golub & LeVeque (1979), eq. 1.5 (population variance)."""
        n, seen = len(samples), self.count
        total = seen + n
        mean, variance = samples.mean(axis=0, dtype=np.float64), samples.var(axis=0, dtype=np.float64)
        delta = mean - self.mean
        squares = seen * self.variance + n * variance + delta**2 * (seen * n / total)
        self.mean, self.variance, self.count = self.mean + delta * (n / total), squares / total, total

    @property
    def std(self) -> NDArray[np.float64]:
        return np.sqrt(self.variance + EPSILON)

    def state(self) -> dict[str, Any]:
        """What `load` takes; tensors and numbers only."""
        mean, variance = torch.tensor(self.mean), torch.tensor(self.variance)
        return {"mean": mean, "variance": variance, "count": self.count}

    def load(self, state: dict[str, Any]) -> None:
        self.mean, self.variance = state["mean"].cpu().numpy(), state["variance"].cpu().numpy()
        self.count = state["count"]


class RewardScaler:
    """Divides rewards by the running standard deviation of the discounted return (never shifts them).

    Engstrom et al. 2020 (Implementation Matters in Deep Policy Gradients), §2; VecNormalize in practice.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.moments = RunningMoments()
        self.returns = np.zeros(num_envs)  # discounted, from the beginning of each running episode

    def update(self, rewards_TN: NDArray[np.float64], dones_TN: NDArray[np.bool_]) -> None:
        """Take in one rollout; an episode that ends starts the next one's return at zero."""
        returns_TN = np.empty_like(rewards_TN)
        for t, (rewards, dones) in enumerate(zip(rewards_TN, dones_TN, strict=True)):
            returns_TN[t] = self.returns = self.gamma * self.returns + rewards
            self.returns = np.where(dones, 0.0, self.returns)
        self.moments.update(returns_TN.ravel())

    def __call__(self, rewards: NDArray[np.float64]) -> Float32Array:
        return np.clip(rewards / self.moments.std, -CLIP, CLIP).astype(np.float32)
