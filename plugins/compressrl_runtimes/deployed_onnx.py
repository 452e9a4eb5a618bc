"""A policy deployed from the `onnx` runtime: policy.onnx by ONNX Runtime.

Copied as deployed.py; see `compressrl.interfaces.DeployableRuntime`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime


def load(
    folder: str, observation_size: int, action_size: int
) -> Callable[[memoryview[float]], Sequence[float]]:
    """The policy as a function of an observation (observation_size,), format "f"."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        f"{folder}/policy.onnx", options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def act(observation: memoryview[float]) -> Sequence[float]:
        action: Sequence[float] = session.run(None, {name: np.asarray(observation)[None]})[0][0]
        return action

    return act
