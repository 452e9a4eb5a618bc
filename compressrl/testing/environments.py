"""A tiny environment with a continuous action: thousands of steps in a fraction of a second."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from compressrl.interfaces import Float32Array

TINY = "compressrl.testing:Tiny-v0"
LIMIT = 3.0
ACTION_LOW = np.array([-1.0, -0.5], np.float32)
ACTION_HIGH = np.array([0.5, 2.0], np.float32)
# Unstable on its own; with distinct eigenvalues two pushes can steer all three numbers.
_DRIFT = np.array([[1.05, 0.2, 0.0], [0.0, 1.0, 0.2], [-0.2, 0.0, 0.95]])
_PUSH = np.array([[0.4, 0.0], [0.1, 0.2], [-0.1, 0.3]])


class TinyEnv(gymnasium.Env[Float32Array, Float32Array]):
    """Three numbers drift apart; two unlike pushes hold them near zero.

    observation: (3,) float32, the state, within ±3; starts at uniform ±1
    action:      (2,) float32 within [-1, 0.5] and [-0.5, 2]: asymmetric, so that a confused scaling shows
    reward:      exp(-|state|²), in (0, 1]
    terminated:  a number has reached ±3; truncated after 25 steps
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (annotated so by Gymnasium)

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-LIMIT, LIMIT, (3,), np.float32)
        self.action_space = spaces.Box(ACTION_LOW, ACTION_HIGH, dtype=np.float32)
        self._state = np.zeros(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._state = self.np_random.uniform(-1, 1, size=3)
        return self._state.astype(np.float32), {}

    def step(self, action: Float32Array) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        pushed = _DRIFT @ self._state + _PUSH @ np.asarray(action, dtype=np.float64)
        noise = self.np_random.normal(0, 0.02, size=3)
        self._state = np.clip(pushed + noise, -LIMIT, LIMIT)
        reward = float(np.exp(-np.square(self._state).sum()))
        terminated = bool(np.abs(self._state).max() >= LIMIT)
        return self._state.astype(np.float32), reward, terminated, False, {}
