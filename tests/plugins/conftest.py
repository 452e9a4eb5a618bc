"""A policy that can do something, so that there is something to keep."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from compressrl.networks import layers
from compressrl.policy import Policy
from compressrl.testing import TINY
from compressrl.testing.environments import _DRIFT, _PUSH, ACTION_HIGH, ACTION_LOW

HIDDEN = 32


@pytest.fixture(scope="session")
def capable() -> Policy:
    """Returns 24 of 25 in the tiny environment, where an untrained policy returns 1.

    The linear-quadratic regulator, not learnt, so that it is the same on every CPU. A quarter of the hidden
    units are random projections of the state, a quarter the same with their signs turned, which ReLU needs.
    The other half has larger weights and does nothing, as its outputs cancel: who goes by weights alone
    prunes the wrong ones.
    """
    scale, offset = (ACTION_HIGH - ACTION_LOW) / 2, (ACTION_HIGH + ACTION_LOW) / 2
    cost = solve_discrete_are(_DRIFT, _PUSH, np.eye(3), 0.01 * np.eye(2))
    gain = -np.linalg.solve(_PUSH.T @ cost @ _PUSH + 0.01 * np.eye(2), _PUSH.T @ cost @ _DRIFT)
    rest = np.arctanh(-offset / scale)  # where the action is zero
    slope = scale * (1 - np.tanh(rest) ** 2)
    used, idle = np.random.default_rng(0).normal(size=(2, HIDDEN // 4, 3)) / 3**0.5
    outputs = gain / slope[:, None] @ np.linalg.pinv(used)
    large = np.full(outputs.shape, np.abs(outputs).max())
    row = (
        layers.Linear(np.concatenate([used, -used, 1.5 * idle, 1.5 * idle]), np.zeros(HIDDEN)),
        layers.Activation("relu"),
        layers.Linear(np.concatenate([outputs, -outputs, large, -large], axis=1), rest),
        layers.Activation("tanh"),
        layers.Rescale(scale, offset),
    )
    return Policy(TINY, "", 3, ACTION_LOW, ACTION_HIGH, ("a regulator",), layers=row)
