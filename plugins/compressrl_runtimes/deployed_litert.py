"""A policy deployed from the `litert` runtime: policy.tflite by LiteRT.

Copied as deployed.py; see `compressrl.interfaces.DeployableRuntime`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def load(
    folder: str, observation_size: int, action_size: int
) -> Callable[[memoryview[float]], Sequence[float]]:
    """The policy as a function of an observation (observation_size,), format "f"."""
    interpreter = Interpreter(f"{folder}/policy.tflite", num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]

    def act(observation: memoryview[float]) -> Sequence[float]:
        interpreter.set_tensor(source, np.asarray(observation)[None])
        interpreter.invoke()
        action: Sequence[float] = interpreter.get_tensor(target)[0]
        return action

    return act
