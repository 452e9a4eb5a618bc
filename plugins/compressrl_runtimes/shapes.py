"""What runtimes say about an observation that does not fit."""

from __future__ import annotations

from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array


def wrong_shape(observation: Float32Array, size: int) -> UsageError:
    """The error for an observation that is not (size,); numpy would broadcast a single number unnoticed."""
    return UsageError(
        f"This policy takes observations of shape ({size},), but got one of shape {observation.shape}. "
        "Choose the environment that it was trained for."
    )
