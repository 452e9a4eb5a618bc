"""What one rollout recorded, and generalised advantage estimation over it.

Shapes: T steps, N environments, B = T·N, D observation, A action.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from compressrl.interfaces import Float32Array


class Rollout:
    """Preallocated records of T steps in N environments, in environment units.

    `next_observations` holds the observation that the step led to, also where the episode ended there.
    """

    def __init__(self, T: int, N: int, D: int, A: int) -> None:
        self.observations: Float32Array = np.empty((T, N, D), np.float32)
        self.next_observations: Float32Array = np.empty((T, N, D), np.float32)
        self.actions: Float32Array = np.empty((T, N, A), np.float32)  # as sampled, not clipped
        self.rewards: NDArray[np.float64] = np.empty((T, N))
        self.terminated: NDArray[np.bool_] = np.empty((T, N), bool)
        self.truncated: NDArray[np.bool_] = np.empty((T, N), bool)


class Batch(NamedTuple):
    """One rollout, flattened, as an update takes it (float32, on the training device)."""

    observations: torch.Tensor  # (B, D), standardised
    actions: torch.Tensor  # (B, A), as sampled
    log_probs: torch.Tensor  # (B,), under the policy that acted
    advantages: torch.Tensor  # (B,), not normalised
    returns: torch.Tensor  # (B,), targets of the value function

    def select(self, index: torch.Tensor) -> Batch:
        """The minibatch of these rows."""
        return Batch(*(tensor[index] for tensor in self))


def generalized_advantages(
    rewards: NDArray[Any],
    values: NDArray[Any],
    next_values: NDArray[Any],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> Float32Array:
    """Advantages (T, N) of Schulman et al. 2016 (GAE), eq. 16; all arguments are (T, N).

    A termination is worth nothing more; a truncation is worth the value of the observation it led to
    (`next_values`). Neither lets the advantage of the next episode leak into this one.
    """
    deltas = rewards + gamma * next_values * ~terminated - values
    decay = gamma * gae_lambda * ~(terminated | truncated)
    advantages = np.empty(deltas.shape, np.float32)
    running = np.zeros(deltas.shape[1])
    for t in reversed(range(len(deltas))):
        running = deltas[t] + decay[t] * running
        advantages[t] = running
    return advantages
