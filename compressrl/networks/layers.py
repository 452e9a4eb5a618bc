"""The float network of a policy as plain data: a row of layers with numpy weights, no torch.

The policy file, the ONNX writer and the numpy execution all read this one description;
`compressrl.networks.modules` turns it into a torch module and back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def owned(array: Any) -> Array:
    """A float32 copy that nobody can write to: policies are immutable."""
    copy: Array = np.array(array, dtype=np.float32, order="C")
    copy.setflags(write=False)
    return copy


@dataclass(frozen=True, eq=False)
class _Owning:
    """Gives a layer arrays of its own."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                object.__setattr__(self, field.name, owned(value))


@dataclass(frozen=True, eq=False)
class Standardize(_Owning):
    """(x - mean) / std, then clipped to ±clip: running observation normalisation, frozen."""

    kind: ClassVar[str] = "standardize"
    mean: Array  # (size,)
    std: Array  # (size,), > 0
    clip: float = float("inf")

    def __call__(self, x: Array) -> Array:
        standardized: Array = np.clip((x - self.mean) / self.std, -self.clip, self.clip)
        return standardized


@dataclass(frozen=True, eq=False)
class Linear(_Owning):
    """x @ weight.T + bias."""

    kind: ClassVar[str] = "linear"
    weight: Array  # (out, in)
    bias: Array  # (out,)

    def __call__(self, x: Array) -> Array:
        result: Array = x @ self.weight.T + self.bias
        return result


@dataclass(frozen=True, eq=False)
class Activation(_Owning):
    """An element-wise non-linearity, by its usual name."""

    kind: ClassVar[str] = "activation"
    name: str  # one of ACTIVATIONS

    def __call__(self, x: Array) -> Array:
        return ACTIVATIONS[self.name](x)


@dataclass(frozen=True, eq=False)
class Rescale(_Owning):
    """x * scale + offset: from (-1, 1) to the environment's own units."""

    kind: ClassVar[str] = "rescale"
    scale: Array  # (size,)
    offset: Array  # (size,)

    def __call__(self, x: Array) -> Array:
        return x * self.scale + self.offset


@dataclass(frozen=True, eq=False)
class Clip(_Owning):
    """x clipped to [low, high]."""

    kind: ClassVar[str] = "clip"
    low: Array  # (size,)
    high: Array  # (size,)

    def __call__(self, x: Array) -> Array:
        clipped: Array = np.clip(x, self.low, self.high)
        return clipped


Layer: TypeAlias = Standardize | Linear | Activation | Rescale | Clip
LAYER_TYPES: dict[str, type[Layer]] = {t.kind: t for t in (Standardize, Linear, Activation, Rescale, Clip)}


def _sigmoid(x: Array) -> Array:
    # Written by tanh: exp of a large negative number would overflow.
    result: Array = (0.5 * (np.tanh(0.5 * x) + 1)).astype(np.float32)
    return result


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0))).astype(np.float32)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "tanh": np.tanh,
    "elu": _elu,
    "sigmoid": _sigmoid,
    "silu": lambda x: (x * _sigmoid(x)).astype(np.float32),
}


def forward(layers: tuple[Layer, ...], x: Array) -> Array:
    """Run (batch, obs_dim) or (obs_dim,) float32 through the layers."""
    for layer in layers:
        x = layer(x)
    return x


def describe(layers: tuple[Layer, ...]) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Split layers into JSON (kinds and scalars) and named arrays `layers.<i>.<field>`."""
    document: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    for index, layer in enumerate(layers):
        entry: dict[str, Any] = {"kind": layer.kind}
        for field in fields(layer):
            value = getattr(layer, field.name)
            if isinstance(value, np.ndarray):
                arrays[f"layers.{index}.{field.name}"] = np.ascontiguousarray(value, dtype=np.float32)
            elif value != float("inf"):  # JSON has no infinity; it is the default
                entry[field.name] = value
        document.append(entry)
    return document, arrays


def restore(document: list[dict[str, Any]], arrays: dict[str, Any]) -> tuple[Layer, ...]:
    """Inverse of `describe`. Raises KeyError, TypeError or ValueError on anything malformed."""
    layers: list[Layer] = []
    for index, entry in enumerate(document):
        layer_type = LAYER_TYPES[entry["kind"]]
        values = {k: v for k, v in entry.items() if k != "kind"}
        prefix = f"layers.{index}."
        values |= {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        layer = layer_type(**values)
        if isinstance(layer, Activation) and layer.name not in ACTIVATIONS:
            raise ValueError(f"unknown activation {layer.name!r}")
        layers.append(layer)
    return tuple(layers)
