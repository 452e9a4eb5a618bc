"""ONNX Runtime as a runtime: every form of a policy, through its ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.networks import onnx_graph
from compressrl.policy import Policy
from compressrl_runtimes import deployment
from compressrl_runtimes.shapes import wrong_shape

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class OnnxRuntime:
    """Executes the ONNX graph of a policy on one CPU thread."""

    def prepare(self, policy: Policy) -> Policy:
        """The policy in graph form: what is shipped, and loads without torch and without onnx."""
        if policy.form == "graph":
            return policy
        return policy.with_graph(policy.to_onnx(), "written as an ONNX graph")

    def load(self, policy: Policy) -> PolicyFunction:
        """Return the graph as a function of one observation; not for several threads at once.

        Input and output are bound to fixed buffers once: a call then takes 0.75 of the time of
        `session.run` (a 3-256-256-2 network). Raises UsageError for a graph of other inputs or outputs
        than a policy's, and (from the function) for an observation of another size.
        """
        session = onnx_graph.session(policy.to_onnx())
        _check_signature(session, policy)
        observation_1D = np.zeros((1, policy.observation_size), np.float32)
        action_1A = np.zeros((1, policy.action_size), np.float32)
        binding = session.io_binding()
        binding.bind_input(session.get_inputs()[0].name, *_buffer(observation_1D))
        binding.bind_output(session.get_outputs()[0].name, *_buffer(action_1A))
        run, row, shape = session.run_with_iobinding, observation_1D[0], observation_1D[0].shape
        action: Float32Array = action_1A[0]

        def act(observation: Float32Array) -> Float32Array:
            if observation.shape != shape:
                raise wrong_shape(observation, shape[0])
            row[:] = observation
            run(binding)
            return action.copy()

        return act

    def deploy(self, policy: Policy, folder: Path) -> None:
        """Write the ONNX file."""
        deployment.write(folder, "onnx", "policy.onnx", policy.to_onnx())


def _buffer(array: Float32Array) -> tuple[str, int, type, tuple[int, ...], int]:
    """Arguments of ONNX Runtime's bind functions for memory that numpy owns."""
    return "cpu", 0, np.float32, array.shape, array.ctypes.data


def _check_signature(session: onnxruntime.InferenceSession, policy: Policy) -> None:
    expected = {"input": policy.observation_size, "output": policy.action_size}
    found = {"input": session.get_inputs(), "output": session.get_outputs()}
    for side, size in expected.items():
        if len(found[side]) != 1 or not _fits(found[side][0], size):
            listing = ", ".join(f"{node.name} {node.type} {node.shape}" for node in found[side])
            raise UsageError(
                f"The policy's ONNX graph needs one {side} tensor(float) [batch, {size}]; it has: {listing}."
            )


def _fits(node: Any, size: int) -> bool:
    """Whether a graph's input or output may be (1, size); a symbolic dimension is not an int."""
    allowed = ((1,), (size,))
    return (
        node.type == "tensor(float)"
        and len(node.shape) == 2
        and all(
            not isinstance(found, int) or found in wanted
            for found, wanted in zip(node.shape, allowed, strict=True)
        )
    )
