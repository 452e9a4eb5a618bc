"""Networks that the algorithms share: the actor's plain MLP, a stack of critics, and the deployed form.

Weights are drawn from an explicit generator, never from torch's global one. Shapes: B batch, D observation,
A action, N critics.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import sqrt
from typing import TypeVar, cast

import torch
from gymnasium import spaces
from torch import nn

from compressrl.environments import Env
from compressrl.errors import OptionError, PipelineError
from compressrl.modules import Clip, Rescale
from compressrl.policy import Policy

# Twice the speed of float32 here; below this many inputs the conversion costs what the product saves.
BFLOAT16_FROM_INPUTS = 128
HIDDEN_HELP = "widths of the hidden layers, e.g. 256x256"


def hidden_widths(hidden: str) -> list[int]:
    """Parse `256x256`. Raises OptionError on anything else."""
    try:
        widths = [int(width) for width in hidden.split("x")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1:
        raise OptionError(f"hidden={hidden} is not valid; it takes widths of layers, e.g. 256x256.")
    return widths


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """nn.Linear with torch's usual initialisation, U(±1/sqrt(inputs)), drawn from `generator` (a CPU one)."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    bound = 1 / sqrt(inputs)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


def mlp(
    sizes: Sequence[int], generator: torch.Generator, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Linear layers of these sizes (input first, output last) with an activation between them."""
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        modules += [linear(inputs, outputs, generator), activation()]
    return nn.Sequential(*modules[:-1])


class Critics(nn.Module):
    """N action-value functions of one shape, evaluated together in one batched product a layer.

    sizes:    inputs (observation and action), then the hidden widths
    bfloat16: multiply wide hidden layers in bfloat16; inputs, values, weights and sums stay float32
    """

    def __init__(
        self, sizes: Sequence[int], count: int, generator: torch.Generator, *, bfloat16: bool = False
    ) -> None:
        super().__init__()
        self.count = count
        self.in_bfloat16 = bfloat16
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, outputs in pairwise([*sizes, 1]):
            bound = 1 / sqrt(inputs)
            weight, bias = torch.empty(count, inputs, outputs), torch.empty(count, 1, outputs)
            self.weights.append(nn.Parameter(weight.uniform_(-bound, bound, generator=generator)))
            self.biases.append(nn.Parameter(bias.uniform_(-bound, bound, generator=generator)))

    def forward(
        self, observation_BD: torch.Tensor, action_BA: torch.Tensor, count: int | None = None
    ) -> torch.Tensor:
        """Values (N, B) of all critics, or of the first `count` only."""
        x = torch.cat([observation_BD, action_BA], dim=1).expand(count or self.count, -1, -1)
        *hidden, (value_weight, value_bias) = self._layers(count)
        for weight, bias in hidden:
            x = self._affine(x, weight, bias).relu()
        # A product with one column is three times faster as a sum.
        return (x * value_weight.transpose(1, 2)).sum(dim=2) + value_bias.squeeze(2)

    def _layers(self, count: int | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        pairs = list(zip(self.weights, self.biases, strict=True))
        # Whole parameters are not sliced: the gradient of a slice is a copy.
        return pairs if count in (None, self.count) else [(w[:count], b[:count]) for w, b in pairs]

    def _affine(self, x_NBI: torch.Tensor, weight_NIO: torch.Tensor, bias_N1O: torch.Tensor) -> torch.Tensor:
        if self.in_bfloat16 and x_NBI.shape[2] >= BFLOAT16_FROM_INPUTS:
            return torch.bmm(x_NBI.bfloat16(), weight_NIO.bfloat16()).float() + bias_N1O
        return torch.baddbmm(bias_N1O, x_NBI, weight_NIO)


def bfloat16_in_hardware() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16, AMX); emulation would be slower."""
    # Private in torch, and absent in some versions: then float32 it is.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Adam:
    """Adam in its fused form: one kernel for all parameters."""
    return torch.optim.Adam(parameters, lr=lr, fused=True)


def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step on the optimiser's own parameters; no gradient is computed for any other."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()


def gaussian_like(action_BA: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard normal noise of the same shape and device."""
    return torch.randn(action_BA.shape, generator=generator, device=action_BA.device)


Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """A target network: same weights, eval mode, no gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def polyak(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Move target to (1 - tau) target + tau source; buffers (ranges of a fake quantizer) are copied."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)
    for theirs, ours in zip(target.buffers(), source.buffers(), strict=True):
        theirs.copy_(ours)


def action_box(env: Env) -> spaces.Box:
    """The action space, which `compressrl.environments.make` has checked to be a bounded box."""
    return cast(spaces.Box, env.action_space)


def action_rescale(box: spaces.Box) -> Rescale:
    """The layer from (-1, 1) to the action's own units."""
    low, high = torch.from_numpy(box.low).float(), torch.from_numpy(box.high).float()
    return Rescale((high - low) / 2, (high + low) / 2)


def start_layers(start: Policy) -> list[nn.Module]:
    """Modules of a policy up to its mean (pre-tanh) output: what an actor is warm-started from.

    Raises PipelineError where the policy's network is not a sequence of layers.
    """
    network = start.network
    if not isinstance(network, nn.Sequential):
        raise PipelineError(
            f"Training cannot start from this policy: its network is a {type(network).__name__}, not a "
            "sequence of layers. Put the step that made it after the one that trains."
        )
    layers = list(network)
    while isinstance(layers[-1], Rescale | Clip | nn.Tanh):
        layers.pop()
    return layers


def squashed(network: nn.Module, rescale: Rescale) -> nn.Sequential:
    """The deployed form of a tanh actor: its own layers, Tanh, Rescale; a copy in eval mode on the CPU."""
    layers = network if isinstance(network, nn.Sequential) else [network]
    return copy.deepcopy(nn.Sequential(*layers, nn.Tanh(), rescale)).cpu().eval()
