"""A policy deployed from the `native` runtime: policy.so by ctypes, without numpy.

Copied as deployed.py; see `compressrl.interfaces.DeployableRuntime`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def load(
    folder: str, observation_size: int, action_size: int
) -> Callable[[memoryview[float]], ctypes.Array[ctypes.c_float]]:
    """The policy as a function of an observation (observation_size,), format "f".

    It returns the same buffer (action_size,) at every call. Not for several threads at once.
    """
    call = ctypes.CDLL(f"{folder}/policy.so").policy_act
    call.restype = None
    observed, action = (ctypes.c_float * observation_size)(), (ctypes.c_float * action_size)()
    row = memoryview(observed).cast("B").cast("f")

    def act(observation: memoryview[float]) -> ctypes.Array[ctypes.c_float]:
        row[:] = observation
        call(observed, action)
        return action

    return act
