"""Fake quantization: float layers that compute with the values that their integer form can hold.

Rounding and scales follow Jacob et al. 2018 (arXiv 1712.05877); gradients pass the rounding straight
through (Bengio et al. 2013, arXiv 1308.3432) and stop where a value is clipped. The scales of weights of few
bits are learnt (Esser et al. 2020, "Learned step size quantization", arXiv 1902.08153).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional

from compressrl.errors import PipelineError
from compressrl.networks.integer import LEVELS, IntegerLayer, IntegerNetwork
from compressrl.networks.modules import ACTIVATION_MODULES, from_module, to_module

BITS = 8
# Share of a batch's range in the moving average: fast enough to follow a policy that is learning.
RANGE_RATE = 0.05
# Inputs that never move still need a scale above zero.
SMALLEST_RANGE = 1e-6
# A row's scale is above this, also where its weights are all zero.
TINY = torch.finfo(torch.float32).eps ** 2
# Shares of a whole range that a search for the best one tries: rare large values are worth cutting off.
SHARES = np.linspace(0.3, 1.0, 36)
# A bias is an int32 in units of x_scale * w_scale; one bit stays free for the sum that it is added to.
LARGEST_BIAS = 2.0**30


def _rounded(x: torch.Tensor) -> torch.Tensor:
    """torch.round for |x| < 2**22 at a tenth of its time: at 2**23 float32 has no bits for fractions."""
    return (x + 1.5 * 2**23) - 1.5 * 2**23


class _RoundActivations(Function):
    """clip(round(x / scale) + zero, 0, 255), back in float; gradient 1 inside the range, 0 outside.

    Clipping comes first here, which is the same: the bounds are whole numbers.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
        levels = x / scale
        clipped = levels.clamp(-zero, LEVELS - zero)
        ctx.save_for_backward(levels == clipped)
        return _rounded(clipped) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


class _RoundWeights(Function):
    """clip(round(w / scale), -largest, largest), back in float.

    Gradient of w: 1 inside the range, 0 outside. Of the scale, one a row: LSQ eq. 3 without its constant
    factor, which Adam cancels where it is not hidden in a clipped norm.
    """

    @staticmethod
    def forward(ctx: Any, w: torch.Tensor, scale: torch.Tensor, largest: int) -> torch.Tensor:
        levels = w / scale
        rounded = _rounded(levels)
        clipped = rounded.clamp(-largest, largest)
        inside = rounded == clipped
        slope = torch.where(inside, rounded - levels, clipped) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(inside, slope)
        return clipped * scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        inside, slope = ctx.saved_tensors
        of_scale = None if slope is None else (gradients[0] * slope).sum(dim=1, keepdim=True)
        return gradients[0] * inside, of_scale, None


class _RoundBias(Function):
    """round(b / scale), back in float; gradient of b: 1."""

    @staticmethod
    def forward(ctx: Any, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return torch.round(b / scale) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


Rounding = Callable[..., torch.Tensor]
_round_activations = cast(Rounding, _RoundActivations.apply)
_round_weights = cast(Rounding, _RoundWeights.apply)
_round_bias = cast(Rounding, _RoundBias.apply)


def _closest_scale(weight: torch.Tensor, largest: int) -> torch.Tensor:
    """(rows,): the scale of least squared rounding error, of those that cut the largest weights off."""
    most = weight.abs().amax(dim=1, keepdim=True).clamp_min(TINY) / largest
    shares, errors = most.new_tensor(SHARES), []
    for scale in (share * most for share in shares):
        rounded = (weight / scale).round().clamp(-largest, largest) * scale
        errors.append((rounded - weight).square().sum(dim=1))
    return shares[torch.stack(errors).argmin(dim=0)] * most.squeeze(1)


class FakeQuantLinear(nn.Linear):
    """nn.Linear with uint8 inputs (one range) and integer weights (one scale a row), in float.

    bits:      2..8, width of a weight; with fewer than 8 the scales are learnt, else a row's largest weight
               sets its scale
    low, high: () the range of the inputs, 0 always within: a moving average of the batches' least and
               greatest input until it is set, and then it stays
    w_start, w_change: (out,) learnt scales are w_start * exp(w_change), so that they stay above 0 and an
               optimizer's steps are relative to them; None with 8 bits
    batches:   () how many batches it was taken from; until the first, inputs are not rounded
    The range is tracked in training mode while gradients are on: neither acting nor a line search moves it.
    """

    low: torch.Tensor
    high: torch.Tensor
    batches: torch.Tensor
    w_start: torch.Tensor | None
    w_change: nn.Parameter | None

    def __init__(self, linear: nn.Linear, bits: int = BITS) -> None:
        nn.Module.__init__(self)  # not nn.Linear's, which would draw random weights
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = nn.Parameter(linear.weight.detach().clone())
        bias = self.weight.new_zeros(self.out_features) if linear.bias is None else linear.bias
        self.bias = nn.Parameter(bias.detach().clone())
        for name in ("low", "high"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.tracks = True
        self.set_bits(bits)

    def set_bits(self, bits: int, w_scale: torch.Tensor | None = None) -> None:
        """Give the weights another width; w_scale (out,): what learnt scales start from."""
        self.bits = bits
        start = None
        if bits < BITS:
            start = _closest_scale(self.weight.detach(), self.largest) if w_scale is None else w_scale
            # A row of zeros has no scale of its own, and at none could never learn.
            start = torch.where(start > TINY, start, start.mean())
        self.register_buffer("w_start", start)
        self.register_parameter("w_change", None if start is None else nn.Parameter(torch.zeros_like(start)))

    @property
    def largest(self) -> int:
        """The largest integer of a weight; the smallest is minus it."""
        return (1 << self.bits - 1) - 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.tracks and self.training and torch.is_grad_enabled():
            self.track(x.detach())
        x_scale, w_scale = self.x_scale, self.w_scale
        if self.batches > 0:
            x = _round_activations(x, x_scale, self.x_zero)
        weight = _round_weights(self.weight, w_scale.unsqueeze(1), self.largest)
        bias = _round_bias(self.bias, x_scale * w_scale)
        return functional.linear(x, weight, bias)

    def set_range(self, low: float, high: float) -> None:
        """Set the range for good: batches move it no more."""
        self.low.fill_(min(low, 0.0))
        self.high.fill_(max(high, 0.0))
        self.batches.clamp_min_(1)
        self.tracks = False

    def track(self, x: torch.Tensor) -> None:
        """Move the range towards that of this batch; the first batches count alike."""
        self.batches += 1
        rate = (1 / self.batches).clamp_min(RANGE_RATE)
        low, high = x.aminmax()
        self.low.lerp_(low.clamp_max(0), rate)
        self.high.lerp_(high.clamp_min(0), rate)

    @property
    def x_scale(self) -> torch.Tensor:
        """() float32 > 0."""
        return (self.high - self.low).clamp_min(SMALLEST_RANGE) / LEVELS

    @property
    def x_zero(self) -> torch.Tensor:
        """() whole number within 0..255."""
        return torch.round(-self.low / self.x_scale).clamp(0, LEVELS)

    @property
    def w_scale(self) -> torch.Tensor:
        """(out,) float32 > 0: learnt, or such that a row's largest weight is the largest integer (127).

        Unless its bias then needs more than 32 bits.
        """
        if self.w_start is None or self.w_change is None:
            scale = self.weight.detach().abs().amax(dim=1) / self.largest
        else:
            scale = self.w_start * self.w_change.exp()
        for_bias = self.bias.detach().abs() / (self.x_scale * LARGEST_BIAS)
        return torch.maximum(scale, for_bias).clamp_min(TINY)

    @torch.no_grad()
    def to_integer(self, activation: str | None) -> IntegerLayer:
        """The layer that computes the same in integers."""
        w_scale = self.w_scale
        levels = torch.round(self.weight / w_scale.unsqueeze(1)).clamp(-self.largest, self.largest)
        return IntegerLayer(
            w8=levels.to(torch.int8).cpu().numpy(),
            w_scale=w_scale.cpu().numpy(),
            bias=self.bias.cpu().numpy(),
            x_scale=float(self.x_scale),
            x_zero=int(self.x_zero),
            activation=activation,
            bits=self.bits,
        )


def from_integer(network: IntegerNetwork) -> nn.Sequential:
    """The row of modules that computes the same in float and can be trained; `to_integer` is the way back."""
    row: list[nn.Module] = list(to_module(network.inputs))
    for layer in network.layers:
        row.append(_trainable(layer))
        if layer.activation:
            row.append(ACTIVATION_MODULES[layer.activation]())
    return nn.Sequential(*row, *to_module(network.outputs)).eval()


def _trainable(layer: IntegerLayer) -> FakeQuantLinear:
    outputs, inputs = layer.w8.shape
    # skip_init: torch's global generator must not advance because a policy was looked at.
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(layer.w8 * layer.w_scale[:, None]))
        linear.bias.copy_(torch.from_numpy(layer.bias.copy()))
    made = FakeQuantLinear(linear)
    made.set_bits(layer.bits, torch.from_numpy(layer.w_scale.copy()))
    made.set_range(-layer.x_zero * layer.x_scale, (LEVELS - layer.x_zero) * layer.x_scale)
    return made


def fake_quantize(module: nn.Module) -> nn.Module:
    """Replace every nn.Linear inside, in place, by a FakeQuantLinear with its weights; return the module."""
    if type(module) is nn.Linear:
        return FakeQuantLinear(module)
    for name, child in module.named_children():
        setattr(module, name, fake_quantize(child))
    return module


def to_integer(module: nn.Module) -> IntegerNetwork:
    """Convert a row of modules with FakeQuantLinear layers; the modules before and after them stay float.

    Raises PipelineError for anything but one known activation between two of them, and for a layer that
    has seen no data.
    """
    row = list(_flat(module))
    places = [i for i, each in enumerate(row) if isinstance(each, FakeQuantLinear)]
    if not places:
        raise PipelineError("The network holds no fake-quantized layer to convert to integers.")
    integer = []
    for place, following in zip(places, [*places[1:], None], strict=True):
        between = row[place + 1 : following] if following is not None else []
        integer.append(_converted(cast(FakeQuantLinear, row[place]), between))
    inputs, outputs = (
        from_module(nn.Sequential(*part)) for part in (row[: places[0]], row[places[-1] + 1 :])
    )
    if inputs is None or outputs is None:
        raise PipelineError("The network has layers of unknown types before or after its linear layers.")
    return IntegerNetwork(inputs, tuple(integer), outputs)


def _flat(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [leaf for child in module for leaf in _flat(child)]
    return [module]


def _converted(layer: FakeQuantLinear, between: list[nn.Module]) -> IntegerLayer:
    if layer.batches == 0:
        raise PipelineError(
            "A fake-quantized layer has seen no data, so it has no input range. Train it first."
        )
    names = [name for name, kind in ACTIVATION_MODULES.items() if [type(m) for m in between] == [kind]]
    if between and not names:
        listing = ", ".join(type(m).__name__ for m in between)
        known = ", ".join(ACTIVATION_MODULES)
        raise PipelineError(f"Between two linear layers stands {listing}; integers need one of {known}.")
    return layer.to_integer(names[0] if names else None)
