"""LiteRT (formerly TensorFlow Lite) with XNNPACK as a runtime; needs `pip install 'compressrl[litert]'`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.policy import Policy
from compressrl_runtimes import deployment
from compressrl_runtimes.shapes import wrong_shape


@dataclass(frozen=True)
class LitertRuntime:
    """Executes float and integer policies as TFLite flatbuffers on one CPU thread.

    By `Interpreter`, not `CompiledModel`: from Python a call of the latter takes 1.5 times as long.
    """

    def load(self, policy: Policy) -> PolicyFunction:
        """Return the policy as a function of one observation; not for several threads at once.

        Raises UsageError for a policy without a TFLite form, or where LiteRT is not installed, and (from the
        function) for an observation of another size.
        """
        content = _flatbuffer(policy)
        from ai_edge_litert.interpreter import Interpreter

        with _silent_stderr():
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
        source = interpreter.get_input_details()[0]["index"]
        target = interpreter.get_output_details()[0]["index"]
        batch = np.zeros((1, policy.observation_size), np.float32)
        row, shape = batch[0], batch[0].shape
        put, invoke, get = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor

        def act(observation: Float32Array) -> Float32Array:
            if observation.shape != shape:
                raise wrong_shape(observation, shape[0])
            row[:] = observation
            put(source, batch)
            invoke()
            action: Float32Array = get(target)[0]
            return action

        return act

    def deploy(self, policy: Policy, folder: Path) -> None:
        """Write the flatbuffer."""
        deployment.write(folder, "litert", "policy.tflite", _flatbuffer(policy))


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Nothing is written meanwhile: LiteRT says there that it uses XNNPACK, and no setting stops it."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _flatbuffer(policy: Policy) -> bytes:
    try:
        from compressrl_runtimes import tflite_graph
    except ImportError as error:
        raise UsageError("The litert runtime needs LiteRT: pip install 'compressrl[litert]'.") from error
    try:
        return tflite_graph.write(policy)
    except UsageError as error:
        raise UsageError(f"The litert runtime cannot execute it. {error} Use --runtime onnx.") from error
