"""Several multilayer perceptrons of one shape, evaluated and differentiated together.

All parameters are one vector. Here in plain torch, whose autograd gives the gradients; `kernel_stack` does
the same faster where there is a C compiler, and the tests hold the two together.

Shapes: N networks, B batch, I inputs, O outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from compressrl_algorithms import elementwise
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.elementwise import Scalar
from compressrl_algorithms.kernel import Numbers


@torch.enable_grad()
def tangent(
    outputs: torch.Tensor, sources: Sequence[torch.Tensor], directions: Sequence[torch.Tensor]
) -> torch.Tensor:
    """How outputs move with their sources in these directions, by two reverse passes.

    The gradient of the sources is linear in that of the outputs, and its slope along the directions is sought
    (Townsend 2017, "A new trick for calculating Jacobian vector products").
    """
    of_outputs = torch.zeros_like(outputs, requires_grad=True)
    gradients = torch.autograd.grad(outputs, sources, of_outputs, create_graph=True, materialize_grads=True)
    along = torch.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)]).sum()
    return torch.autograd.grad(along, of_outputs, retain_graph=True)[0]


class Layer(NamedTuple):
    """One layer of all networks, as views of a vector."""

    weight: torch.Tensor  # (N, O, I), in memory (N, I, O)
    bias: torch.Tensor  # (N, 1, O)


Activation = Literal["relu", "tanh"]


class MLPStack(nn.Module):
    """N perceptrons; `vector` (P,) float32 holds all parameters.

    Inputs are one tensor or two, (B, I) each, that stand side by side; outputs are (N, B, O).

    sizes:      inputs, hidden widths, outputs
    activation: between their layers
    """

    forgotten: frozenset[str] = frozenset({"matrices", "latest"})  # by copies: the original's views and pass
    latest: Any = None  # the pass whose gradient may be asked for
    numbers: Numbers = "float32"  # that it multiplies in

    def __init__(self, sizes: Sequence[int], count: int, activation: Activation = "relu") -> None:
        super().__init__()
        self.sizes, self.count, self.activation = tuple(sizes), count, activation
        self.activate = torch.tanh if activation == "tanh" else torch.relu
        length = count * sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
        self.vector = nn.Parameter(torch.zeros(length))

    def layers(self) -> list[Layer]:
        """Views of the parameters; differentiable."""
        return self._layers(self.vector)

    def _layers(self, vector: torch.Tensor) -> list[Layer]:
        layers, start, N = [], 0, self.count
        for inputs, outputs in pairwise(self.sizes):
            middle, end = start + N * outputs * inputs, start + N * outputs * (inputs + 1)
            weight, bias = vector[start:middle], vector[middle:end]
            layers.append(Layer(weight.view(N, inputs, outputs).mT, bias.view(N, 1, outputs)))
            start = end
        return layers

    def initialise(self, generator: torch.Generator) -> None:
        """Torch's usual U(±1/sqrt(inputs)); the generator is a CPU one."""
        with torch.no_grad():
            for inputs, layer in zip(self.sizes, self.layers(), strict=False):
                for part in layer:
                    part.copy_(torch.empty(part.shape).uniform_(-1, 1, generator=generator) / inputs**0.5)

    def adopt(self, index: int, row: Sequence[Sequence[nn.Linear]]) -> None:
        """Make ordinary layers views of network `index`: it takes their values, they follow its updates.

        row: for each layer the nn.Linear modules whose outputs stand side by side in it
        """
        for layer, parts in zip(self.layers(), row, strict=True):
            outputs = [part.out_features for part in parts]
            weights = torch.split(layer.weight.detach()[index], outputs)
            biases = torch.split(layer.bias.detach()[index, 0], outputs)
            for part, weight, bias in zip(parts, weights, biases, strict=True):
                weight.copy_(part.weight.data)
                bias.copy_(part.bias.data)
                part.weight.data, part.bias.data = weight, bias

    @torch.no_grad()
    def forward(self, *inputs_BI: torch.Tensor) -> torch.Tensor:
        """Outputs, as constants."""
        return self._evaluate(self.vector, self.count, inputs_BI)

    @torch.enable_grad()
    def learn(self, *inputs_BI: torch.Tensor) -> torch.Tensor:
        """Outputs, as constants; `gradient` then is that of the parameters."""
        outputs = self._evaluate(self.vector, self.count, inputs_BI)
        self.latest = outputs, self.vector
        return outputs.detach()

    @torch.enable_grad()
    def probe(self, *inputs_BI: torch.Tensor, count: int | None = None) -> torch.Tensor:
        """Outputs of the first `count` networks, as constants; `gradient` then is that of the last input."""
        *others, last = inputs_BI
        last = last.detach().requires_grad_(True)
        outputs = self._evaluate(self.vector.detach(), count or self.count, (*others, last))
        self.latest = outputs, last
        return outputs.detach()

    def gradient(self, of_outputs: torch.Tensor, *, retain: bool = False) -> torch.Tensor:
        """Of the parameters or the input, from that of the outputs of the latest `learn` or `probe`.

        retain: the pass may be asked again, as long as the parameters stay

        Raises RuntimeError where there is none, or another call has used it up.
        """
        outputs, source = self._kept()
        self.latest = self.latest if retain else None
        gradient: torch.Tensor = torch.autograd.grad(outputs, source, of_outputs, retain_graph=retain)[0]
        return gradient

    def tangent(self, direction: torch.Tensor) -> torch.Tensor:
        """How the outputs of the latest `learn` move with the parameters in this direction (P,).

        The pass is retained. Raises RuntimeError as `gradient` does.
        """
        outputs, source = self._kept()
        return tangent(outputs, [source], [direction])

    def _kept(self) -> Any:
        if self.latest is None:
            raise RuntimeError("No pass to take the gradient of: call learn or probe first.")
        return self.latest

    def descend(self, of_outputs: torch.Tensor, optimizer: Adam) -> None:
        """One step on the parameters, from the gradient of the outputs of the latest `learn`."""
        optimizer.descend([self.gradient(of_outputs)])

    def regress(self, target_B: torch.Tensor, *inputs_BI: torch.Tensor, optimizer: Adam) -> Scalar:
        """One step down half the squared error of single outputs, mean over B, summed over N; returns that
        (before).
        """
        values_NB = self.learn(*inputs_BI).squeeze(2)
        loss, gradient_NB = elementwise.squared_error(values_NB, target_B)
        self.descend(gradient_NB.unsqueeze(2), optimizer)
        return loss

    def value_loss(self, *inputs_BI: torch.Tensor, count: int | None = None) -> tuple[Scalar, torch.Tensor]:
        """Minus the mean of the lowest single output of the first `count` networks; its gradient of the last
        input.
        """
        values_NB = self.probe(*inputs_BI, count=count).squeeze(2)
        loss, gradient_NB = elementwise.value_loss(values_NB)
        return loss, self.gradient(gradient_NB.unsqueeze(2))

    def _evaluate(
        self, vector: torch.Tensor, count: int, inputs_BI: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        x = torch.cat(inputs_BI, dim=1).expand(count, -1, -1)
        *hidden, last = self._layers(vector)
        for weight, bias in hidden:
            x = self.activate(torch.baddbmm(bias[:count], x, weight[:count].mT))
        return torch.baddbmm(last.bias[:count], x, last.weight[:count].mT)

    def act(self, x_1I: torch.Tensor) -> torch.Tensor:
        """Outputs of the first network (1, O) for one row, in float32 whatever the others are."""
        *hidden, (weight, bias) = self.matrices
        for weight_IO, bias_O in hidden:
            x_1I = self.activate(torch.addmm(bias_O, x_1I, weight_IO))
        return torch.addmm(bias, x_1I, weight)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in self.forgotten}

    @functools.cached_property
    def matrices(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weights (I, O) and biases (O,) of the first network: views, made once, without gradient."""
        return [(weight.detach()[0].T, bias.detach()[0, 0]) for weight, bias in self.layers()]
