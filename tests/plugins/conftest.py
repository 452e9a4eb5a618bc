"""A policy that has learnt something, so that there is something to keep."""

from __future__ import annotations

import pytest

from compressrl.lab import Lab
from compressrl.policy import Policy
from compressrl.testing import TINY, RandomSearch
from compressrl.training import TrainingSession


@pytest.fixture(scope="session")
def capable() -> Policy:
    """Returns 22 of 25 in the tiny environment, where an untrained policy returns 1."""
    return RandomSearch(hidden=32).train(Lab(TINY, training=TrainingSession(steps=5000)))
