"""A policy deployed from the `torch` runtime: the layers of policy.pt, eager.

Copied as deployed.py; see `compressrl.interfaces.DeployableRuntime`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

STEPS: dict[str, Callable[..., Tensor]] = {
    "linear": functional.linear,
    "activation": lambda x, name: getattr(functional, name)(x),
    "standardize": lambda x, mean, std, clip=float("inf"): ((x - mean) / std).clamp(-clip, clip),
    "rescale": lambda x, scale, offset: x * scale + offset,
    "clip": lambda x, low, high: torch.minimum(torch.maximum(x, low), high),
}


def load(
    folder: str, observation_size: int, action_size: int
) -> Callable[[memoryview[float]], Sequence[float]]:
    """The policy as a function of an observation (observation_size,), format "f"."""
    torch.set_num_threads(1)
    row: list[dict[str, Any]] = torch.load(f"{folder}/policy.pt", weights_only=True)
    steps = [partial(STEPS[layer.pop("kind")], **layer) for layer in row]

    @torch.inference_mode()
    def act(observation: memoryview[float]) -> Sequence[float]:
        x = torch.frombuffer(observation, dtype=torch.float32)[None]
        for step in steps:
            x = step(x)
        action: Sequence[float] = x[0].tolist()
        return action

    return act
