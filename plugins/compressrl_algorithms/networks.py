"""Networks that the algorithms share: the actor's plain MLP, a stack of critics, and the deployed form.

Weights are drawn from an explicit generator, never from torch's global one. Shapes: B batch, D observation,
A action, N critics.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import TypeVar

import torch
from torch import nn

from compressrl.errors import OptionError, PipelineError
from compressrl.interfaces import Float32Array
from compressrl.networks.modules import Clip, Rescale
from compressrl.policy import Policy
from compressrl_algorithms import elementwise, kernel_stack
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.elementwise import Scalar
from compressrl_algorithms.kernel import Numbers
from compressrl_algorithms.mlp_stack import Activation, MLPStack, tangent

HIDDEN_HELP = "widths of the hidden layers, e.g. 256x256"
OBSERVATIONS_HELP = "those that the networks read: all, or positions such as 0-26 or 0-26/30"


def hidden_widths(hidden: str) -> list[int]:
    """Parse `256x256`. Raises OptionError on anything else."""
    try:
        widths = [int(width) for width in hidden.split("x")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1:
        raise OptionError(f"hidden={hidden} is not valid; it takes widths of layers, e.g. 256x256.")
    return widths


def observation_mask(text: str, size: int) -> torch.Tensor:
    """Parse `all`, `0-26` or `0-26/30`: (size,) bool, true for an observation that is read.

    Raises OptionError for anything else, and for positions that an observation of this size does not have.
    """
    mask = torch.full((size,), text == "all")
    for part in [] if text == "all" else text.split("/"):
        found = re.fullmatch("([0-9]+)(?:-([0-9]+))?", part)
        if not found:
            raise OptionError(
                f"observations={text} is not valid; it takes all, or positions such as 0-26/30."
            )
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < size:
            raise OptionError(f"observations={text} is not valid: {part} is no range within 0-{size - 1}.")
        mask[first : last + 1] = True
    return mask


def ignore(actor: nn.Sequential, mask_D: torch.Tensor) -> torch.Tensor:
    """Give the observations that `mask_D` leaves out weights of zero, in place.

    As long as they are shown to it as zero the actor keeps these, and then ignores them wherever it is used.
    Returns the mask less what the actor ignores already. Raises PipelineError where the mask leaves something
    out and the first layer has no weights of its observations.
    """
    first = actor[0]
    if isinstance(first, nn.Linear):
        with torch.no_grad():
            first.weight.mul_(mask_D)
            return first.weight.any(dim=0)
    if not mask_D.all():
        raise PipelineError(
            f"The policy to start from begins with a {type(first).__name__}, not with the weights of its "
            "observations. Leave the option observations out."
        )
    return mask_D


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
    """N action-value functions of one shape, evaluated together.

    sizes: inputs (observation and action), then the hidden widths
    """

    def __init__(
        self, sizes: Sequence[int], count: int, generator: torch.Generator, *, numbers: Numbers = "float32"
    ) -> None:
        super().__init__()
        self.stack = kernel_stack.make([*sizes, 1], count, numbers=numbers)
        self.stack.initialise(generator)

    def forward(self, observation_BD: torch.Tensor, action_BA: torch.Tensor) -> torch.Tensor:
        """Values (N, B), as constants."""
        values: torch.Tensor = self.stack(observation_BD, action_BA).squeeze(2)
        return values

    def learnt(self) -> list[torch.Tensor]:
        """What an optimiser moves."""
        return [self.stack.vector]

    def regress(
        self, observation_BD: torch.Tensor, action_BA: torch.Tensor, target_B: torch.Tensor, optimizer: Adam
    ) -> Scalar:
        """One step down the mean over B of half the squared error, summed over N; returns that (before)."""
        return self.stack.regress(target_B, observation_BD, action_BA, optimizer=optimizer)

    def value_loss(
        self, observation_BD: torch.Tensor, action_BA: torch.Tensor, count: int | None = None
    ) -> tuple[Scalar, torch.Tensor]:
        """Minus the mean of the lowest value of all critics, or of the first `count` only; and its gradient
        of the action (B, A).
        """
        return self.stack.value_loss(observation_BD, action_BA, count=count)


class Actor(nn.Module):
    """An actor's hidden layers with one or more heads, outputs side by side.

    Rows of linear layers with ReLU or tanh between them become views of an MLPStack; anything else (fake
    quantization, networks on a GPU) is executed as it is. Either way the modules given are those that learn.
    """

    def __init__(
        self, hidden: nn.Sequential, heads: Sequence[nn.Module], *, numbers: Numbers = "float32", device: str
    ) -> None:
        super().__init__()
        self.hidden, self.heads = hidden, nn.ModuleList(heads)
        self.stack = stacked(hidden, heads, numbers) if device == "cpu" else None
        # Remembered, as all parameters of a target network are frozen, and move all the same.
        self.free = [part for part in (*hidden.parameters(), *self.heads.parameters()) if part.requires_grad]

    def learnt(self) -> list[torch.Tensor]:
        """What an optimiser moves."""
        if self.stack is not None:
            return [self.stack.vector]
        return list(self.free)

    def forward(self, observation_BD: torch.Tensor) -> torch.Tensor:
        """(B, sum of the heads' outputs), as constants."""
        if self.stack is not None:
            outputs: torch.Tensor = self.stack(observation_BD)[0]
            return outputs
        with torch.no_grad():
            return self.plain(observation_BD)

    def learn(self, observation_BD: torch.Tensor) -> torch.Tensor:
        """The same; `gradients` and `descend` then go from here."""
        if self.stack is not None:
            return self.stack.learn(observation_BD)[0]
        with torch.enable_grad():
            self.latest = self.plain(observation_BD)
        return self.latest.detach()

    def gradients(self, gradient_BH: torch.Tensor, *, retain: bool = False) -> Sequence[torch.Tensor]:
        """Of what is learnt, from that of the outputs of the latest `learn`.

        retain: they may be asked for again, and `tangent` too, as long as the parameters stay
        """
        if self.stack is not None:
            return [self.stack.gradient(gradient_BH.unsqueeze(0), retain=retain)]
        return torch.autograd.grad(
            self.latest, self.learnt(), gradient_BH, retain_graph=retain, materialize_grads=True
        )

    def tangent(self, directions: Sequence[torch.Tensor]) -> torch.Tensor:
        """How the outputs of the latest `learn` (B, H) move with what is learnt in these directions."""
        if self.stack is not None:
            return self.stack.tangent(directions[0])[0]
        return tangent(self.latest, self.learnt(), directions)

    def descend(self, gradient_BH: torch.Tensor, optimizer: Adam) -> None:
        """One step, from the gradient of the outputs of the latest `learn`."""
        if self.stack is not None:
            self.stack.descend(gradient_BH.unsqueeze(0), optimizer)
        else:
            optimizer.descend(self.gradients(gradient_BH))

    def plain(self, observation_BD: torch.Tensor) -> torch.Tensor:
        """The same by the modules themselves, in float32; differentiable."""
        features = self.hidden(observation_BD)
        return torch.cat([head(features) for head in self.heads], dim=1)

    @torch.no_grad()
    def act(self, observation_1D: torch.Tensor) -> torch.Tensor:
        """The same for one observation, in float32."""
        return self.plain(observation_1D) if self.stack is None else self.stack.act(observation_1D)


def stacked(
    hidden: nn.Sequential, heads: Sequence[nn.Module], numbers: Numbers = "float32"
) -> MLPStack | None:
    """A stack whose views these layers become, with the heads side by side as its last layer.

    None where they are no linear layers with ReLU, or all with tanh, between them, or some are frozen; exact
    types without hooks, as a subclass or a hook may compute something else.
    """
    if any(module._forward_hooks or module._forward_pre_hooks for module in (hidden, *hidden, *heads)):
        return None
    linears = [layer for layer in hidden if type(layer) is nn.Linear]
    outputs = [head for head in heads if type(head) is nn.Linear]
    kinds = [type(layer) for layer in hidden]
    activation: Activation = "tanh" if nn.Tanh in kinds else "relu"
    expected = [kind for _ in linears for kind in (nn.Linear, nn.Tanh if activation == "tanh" else nn.ReLU)]
    if kinds != expected or len(outputs) < len(heads):
        return None
    parameters = [part for layer in (*linears, *outputs) for part in (layer.weight, layer.bias)]
    if any(part is None or not part.requires_grad for part in parameters):
        return None
    sizes = [(linears or outputs)[0].in_features, *(layer.out_features for layer in linears)]
    sizes.append(sum(head.out_features for head in outputs))
    stack = kernel_stack.make(sizes, 1, numbers=numbers, activation=activation)
    stack.adopt(0, [*([layer] for layer in linears), outputs])
    return stack


def gaussian_like(action_BA: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard normal noise of the same shape and device."""
    return torch.randn(action_BA.shape, generator=generator, device=action_BA.device)


Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """A target network: same weights, eval mode, no gradients."""
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    if isinstance(copied, Actor) and copied.stack is not None:
        # The copies of modules no longer follow the stack, which alone is executed.
        copied.hidden, copied.heads = nn.Sequential(), nn.ModuleList()
    return copied


@torch.no_grad()
def polyak(target: Critics | Actor, source: Critics | Actor, tau: float) -> None:
    """Move target to (1 - tau) target + tau source; buffers (ranges of a fake quantizer) are copied."""
    for their, our in zip(target.learnt(), source.learnt(), strict=True):
        elementwise.polyak(their, our, tau)
    if source.stack is None:
        for their, our in zip(target.buffers(), source.buffers(), strict=True):
            their.copy_(our)


def action_rescale(low_A: Float32Array, high_A: Float32Array) -> Rescale:
    """The layer from [-1, 1] to the action's own units, and within its bounds after rounding, too."""
    low, high = torch.from_numpy(low_A), torch.from_numpy(high_A)
    offset = (high + low) / 2
    scale = torch.minimum(high - offset, offset - low)
    while (beyond := (offset + scale > high) | (offset - scale < low)).any():
        scale = torch.where(beyond, torch.nextafter(scale, torch.zeros_like(scale)), scale)
    return Rescale(scale, offset)


def start_row(start: Policy) -> list[nn.Module]:
    """All modules of the policy that training starts from.

    Raises PipelineError where its network is not a sequence of layers.
    """
    network = start.network
    if not isinstance(network, nn.Sequential):
        raise PipelineError(
            f"Training cannot start from this policy: its network is a {type(network).__name__}, not a "
            "sequence of layers. Put the step that made it after the one that trains."
        )
    return list(network)


def start_layers(start: Policy) -> list[nn.Module]:
    """Those up to its mean (pre-tanh) output: what an actor is warm-started from."""
    row = start_row(start)
    while isinstance(row[-1], Rescale | Clip | nn.Tanh):
        row.pop()
    return row


def squashed(network: nn.Module, rescale: Rescale) -> nn.Sequential:
    """The deployed form of a tanh actor: its own layers, Tanh, Rescale; a copy in eval mode on the CPU."""
    layers = network if isinstance(network, nn.Sequential) else [network]
    return copy.deepcopy(nn.Sequential(*layers, nn.Tanh(), rescale)).cpu().eval()
