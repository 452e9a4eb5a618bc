"""PyTorch as a runtime: eager, batch 1, one thread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.policy import Policy
from compressrl_runtimes.shapes import wrong_shape


@dataclass(frozen=True)
class TorchRuntime:
    """Executes the float network as it was trained."""

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
