"""PyTorch as a runtime: eager, batch 1, one thread."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.networks.layers import Layer
from compressrl.policy import Form, Policy
from compressrl_runtimes import deployment
from compressrl_runtimes.shapes import wrong_shape


@dataclass(frozen=True)
class TorchRuntime:
    """Executes the float network as it was trained."""

    takes: ClassVar[tuple[Form, ...]] = ("network",)

    def load(self, policy: Policy) -> PolicyFunction:
        """Return the network as a function of one observation; not for several threads at once.

        Limits torch to one thread in the whole process. Raises UsageError for a quantized policy or a
        foreign graph, and (from the function) for an observation of another size.
        """
        if policy.form != "network":
            raise UsageError(
                f"The torch runtime executes float networks, but this policy is in {policy.form} form "
                f"({policy.provenance[-1]}). Use --runtime onnx."
            )
        torch.set_num_threads(1)
        network = policy.network
        batch = np.zeros((1, policy.observation_size), np.float32)
        tensor, row, shape = torch.from_numpy(batch), batch[0], batch[0].shape

        @torch.inference_mode()
        def act(observation: Float32Array) -> Float32Array:
            if observation.shape != shape:
                raise wrong_shape(observation, shape[0])
            row[:] = observation
            # A copy, because a network may hand out (a part of) its input.
            action: Float32Array = network(tensor)[0].numpy().copy()
            return action

        return act

    def deploy(self, policy: Policy, folder: Path) -> None:
        """Write the layers with their weights. Raises UsageError for modules of unknown types."""
        if policy.layers is None:
            raise UsageError(
                "The torch runtime deploys rows of plain layers only: what other modules do stands in their "
                "authors' code. Use --runtime onnx."
            )
        row = [{"kind": layer.kind, **_tensors(layer)} for layer in policy.layers]
        content = io.BytesIO()
        torch.save(row, content)
        deployment.write(folder, "torch", "policy.pt", content.getvalue())


def _tensors(layer: Layer) -> dict[str, Any]:
    return {
        name: torch.tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in vars(layer).items()
    }
