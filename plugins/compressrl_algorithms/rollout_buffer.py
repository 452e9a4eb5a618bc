"""What one rollout recorded, and generalised advantage estimation over it.

Shapes: T steps, N environments, B = T·N, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compressrl.interfaces import Float32Array

if TYPE_CHECKING:
    import torch


class Rollout(NamedTuple):
    """Records of T steps in N environments, in environment units.

    `next_observations` holds the observation that the step led to, also where the episode ended there.
    """

    observations: Float32Array  # (T, N, D)
    next_observations: Float32Array  # (T, N, D)
    actions: Float32Array  # (T, N, A), as sampled, not clipped
    rewards: NDArray[np.float64]  # (T, N)
    terminated: NDArray[np.bool_]  # (T, N)
    truncated: NDArray[np.bool_]  # (T, N)

    @classmethod
    def empty(cls, T: int, N: int, D: int, A: int) -> Rollout:
        """To be filled."""
        shapes = [(T, N, D), (T, N, D), (T, N, A), (T, N), (T, N), (T, N)]
        types = [np.float32, np.float32, np.float32, np.float64, np.bool_, np.bool_]
        return cls(*map(np.empty, shapes, types))

    def split(self, ends: Sequence[int]) -> list[Rollout]:
        """Views of the environments up to ends[0], from there to ends[1], and so on to the last."""
        return [Rollout(*parts) for parts in zip(*(np.split(a, ends, axis=1) for a in self), strict=True)]

    def fill(self, other: Rollout) -> None:
        """With what another of its shape holds."""
        pairs: Iterable[tuple[Any, Any]] = zip(self, other, strict=True)
        for mine, theirs in pairs:
            mine[...] = theirs


class Batch(NamedTuple):
    """One rollout, flattened, as an update takes it (float32, on the training device)."""

    observations: torch.Tensor  # (B, D), standardised
    actions: torch.Tensor  # (B, A), as sampled
    log_probs: torch.Tensor  # (B,), under the policy that acted
    advantages: torch.Tensor  # (B,), not normalised
    returns: torch.Tensor  # (B,), targets of the value function


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
