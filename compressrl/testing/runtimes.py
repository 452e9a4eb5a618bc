"""A runtime without any library of its own."""

from __future__ import annotations

from dataclasses import dataclass

from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.policy import Policy


@dataclass(frozen=True)
class ReferenceRuntime:
    """Executes a policy as `policy(observation)` does: every form, and the yardstick of the others."""

    def load(self, policy: Policy) -> PolicyFunction:
        def act(observation: Float32Array) -> Float32Array:
            # numpy would broadcast a single number to all observations.
            if observation.shape != (policy.observation_size,):
                raise UsageError(f"An observation must be ({policy.observation_size},): {observation.shape}.")
            return policy(observation)

        return act
