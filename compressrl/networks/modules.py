"""Torch modules of a policy network, and the way from plain layers to torch and back."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod

from compressrl.networks import layers
from compressrl.networks.layers import Layer

# Divided by this, an observation that a policy ignores is zero, whatever it is.
IGNORED_STD = 1e30


class Standardize(nn.Module):
    """(x - mean) / std, clipped to ±clip; mean and std are buffers (size,)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, clip: float = float("inf")) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.clip = clip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.mean) / self.std).clamp(-self.clip, self.clip)


class Rescale(nn.Module):
    """x * scale + offset; buffers (size,)."""

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, scale: torch.Tensor, offset: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.offset


class Clip(nn.Module):
    """x clipped to [low, high]; buffers (size,)."""

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, low: torch.Tensor, high: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.minimum(torch.maximum(x, self.low), self.high)


ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
}
_ACTIVATION_NAMES = {module: name for name, module in ACTIVATION_MODULES.items()}


def to_module(row: tuple[Layer, ...]) -> nn.Sequential:
    """Build the torch module, in eval mode, with weights of its own."""
    return nn.Sequential(*(_to_module(layer) for layer in row)).eval()


def from_module(module: nn.Module) -> tuple[Layer, ...] | None:
    """Describe a (nested) Sequential of known modules; None where any module is of another type.

    Exact types without hooks only: a subclass of nn.Linear, or a hook, may compute something else.
    """
    if _hooked(module):
        return None
    if type(module) is nn.Sequential:
        parts = [from_module(child) for child in module]
        return None if any(p is None for p in parts) else tuple(x for p in parts if p for x in p)
    layer = _from_module(module)
    return () if type(module) is nn.Identity else None if layer is None else (layer,)


def first_unknown(module: nn.Module, place: str = "") -> tuple[str, nn.Module]:
    """The first part that `from_module` does not know, and its place in nested Sequentials: "1" or "0.2"."""
    if type(module) is nn.Sequential and not _hooked(module):
        for index, child in enumerate(module):
            if from_module(child) is None:
                return first_unknown(child, f"{place}.{index}".lstrip("."))
    return place, module


def _hooked(module: nn.Module) -> bool:
    """Whether a hook may change what the module computes; a pruning mask is in the weights already."""
    before = [h for h in module._forward_pre_hooks.values() if not isinstance(h, BasePruningMethod)]
    return bool(before or module._forward_hooks)


def _tensor(array: layers.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _array(tensor: torch.Tensor) -> layers.Array:
    return tensor.detach().cpu().float().numpy()


def _to_module(layer: Layer) -> nn.Module:
    match layer:
        case layers.Linear(weight=weight, bias=bias):
            # skip_init: torch's global generator must not advance because a policy was looked at.
            linear: nn.Linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])  # type: ignore[no-untyped-call]
            linear.weight = nn.Parameter(_tensor(weight))
            linear.bias = nn.Parameter(_tensor(bias))
            return linear
        case layers.Activation(name=name):
            return ACTIVATION_MODULES[name]()
        case layers.Standardize(mean=mean, std=std, clip=clip):
            return Standardize(_tensor(mean), _tensor(std), clip)
        case layers.Rescale(scale=scale, offset=offset):
            return Rescale(_tensor(scale), _tensor(offset))
        case layers.Clip(low=low, high=high):
            return Clip(_tensor(low), _tensor(high))


def _from_module(module: nn.Module) -> Layer | None:
    kind = type(module)
    if kind is nn.Linear:
        linear = cast(nn.Linear, module)
        # nn.Linear(bias=False) holds None there, whatever its annotation says.
        bias: torch.Tensor | None = linear.bias
        zeros = torch.zeros(linear.out_features)
        return layers.Linear(_array(linear.weight), _array(zeros if bias is None else bias))
    if kind is nn.ELU and module.alpha != 1.0:
        return None
    if kind in _ACTIVATION_NAMES:
        return layers.Activation(_ACTIVATION_NAMES[kind])
    if type(module) is Standardize:
        return layers.Standardize(_array(module.mean), _array(module.std), module.clip)
    if type(module) is Rescale:
        return layers.Rescale(_array(module.scale), _array(module.offset))
    if type(module) is Clip:
        return layers.Clip(_array(module.low), _array(module.high))
    return None
