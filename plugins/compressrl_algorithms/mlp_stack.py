"""Several multilayer perceptrons of one shape, evaluated and differentiated together.

An update of an off-policy algorithm is a dozen passes through small networks, in which autograd, dispatch
and element-wise operations cost more than the products. So all parameters are one vector, and where the CPU
multiplies bfloat16 (AVX512-BF16) and there is a C compiler, a pass is one call of mlp_stack.c; elsewhere it
is plain torch in float32, which is also what the tests compare the kernel with. Parameters, optimiser state,
outputs and losses are float32 either way.

Shapes: N networks, B batch, I inputs, O outputs.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn

from compressrl.c_code import c_compiler


class Layer(NamedTuple):
    """One layer of all networks, as views of a vector."""

    weight: torch.Tensor  # (N, O, I)
    bias: torch.Tensor  # (N, 1, O)


class MLPStack(nn.Module):
    """N perceptrons with ReLU between their layers; `vector` (P,) float32 holds all parameters.

    sizes:    inputs, hidden widths, outputs
    bfloat16: multiply in bfloat16, where this machine can
    """

    def __init__(self, sizes: Sequence[int], count: int, *, bfloat16: bool = False) -> None:
        super().__init__()
        self.sizes, self.count = tuple(sizes), count
        self.by_kernel = bfloat16 and kernel() is not None
        length = count * sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
        self.vector = nn.Parameter(torch.zeros(length))
        self.workspaces: dict[int, torch.Tensor] = {}  # by batch size
        self.passes = 0  # forward passes so far: the workspace is that of the last one

    def layers(self) -> list[Layer]:
        """Views of the parameters; differentiable."""
        layers, start, N = [], 0, self.count
        for inputs, outputs in pairwise(self.sizes):
            middle, end = start + N * outputs * inputs, start + N * outputs * (inputs + 1)
            weight, bias = self.vector[start:middle], self.vector[middle:end]
            layers.append(Layer(weight.view(N, outputs, inputs), bias.view(N, 1, outputs)))
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

    def forward(self, *inputs_BI: torch.Tensor) -> torch.Tensor:
        """Outputs (N, B, O) of inputs side by side; differentiable in the parameters and the last input.

        By the kernel, the gradient is of the latest pass only: it must be taken before the next one.
        """
        return self._evaluate(self.vector, self.count, inputs_BI)

    def frozen(self, *inputs_BI: torch.Tensor, count: int | None = None) -> torch.Tensor:
        """The same with constant parameters, of the first `count` networks."""
        return self._evaluate(self.vector.detach(), count or self.count, inputs_BI)

    def _evaluate(
        self, vector: torch.Tensor, count: int, inputs_BI: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        # The kernel takes rows of a batch in pairs.
        if self.by_kernel and vector.device.type == "cpu" and len(inputs_BI[0]) % 2 == 0:
            outputs: torch.Tensor = _ByKernel.apply(self, count, vector, *inputs_BI)  # type: ignore[no-untyped-call]
            return outputs
        x = torch.cat(inputs_BI, dim=1).expand(count, -1, -1)
        layers = self.layers()
        for index, (weight, bias) in enumerate(layers):
            if not vector.requires_grad:
                weight, bias = weight.detach(), bias.detach()
            x = torch.baddbmm(bias[:count], x, weight[:count].mT)
            x = x.relu() if index < len(layers) - 1 else x
        return x

    def __getstate__(self) -> dict[str, Any]:
        """For copies: without the kernel's memory and the views, which would be the original's."""
        return {k: v for k, v in self.__dict__.items() if k not in ("matrices", "shape")} | {"workspaces": {}}

    def workspace(self, batch: int) -> torch.Tensor:
        """The kernel's memory for this batch size."""
        if batch not in self.workspaces:
            engine = kernel()
            assert engine is not None
            size = engine.stack_workspace_bytes(*self.shape, self.count, batch)
            self.workspaces[batch] = torch.empty(size, dtype=torch.uint8)
        return self.workspaces[batch]

    @functools.cached_property
    def matrices(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weights (I, O) and biases (O,) of the first network: views, made once, without gradient."""
        return [(weight.detach()[0].T, bias.detach()[0, 0]) for weight, bias in self.layers()]

    @functools.cached_property
    def shape(self) -> tuple[Any, int]:
        """Sizes and number of layers, for the kernel."""
        return (ctypes.c_int * len(self.sizes))(*self.sizes), len(self.sizes) - 1


class _ByKernel(torch.autograd.Function):
    """One pass of a stack's first `count` networks by mlp_stack.c."""

    @staticmethod
    def forward(
        ctx: Any, stack: MLPStack, count: int, vector: torch.Tensor, *inputs_BI: torch.Tensor
    ) -> torch.Tensor:
        x = torch.cat(inputs_BI, dim=1)
        outputs_NBO = x.new_empty(count, len(x), stack.sizes[-1])
        stack.passes += 1
        ctx.stack, ctx.count, ctx.made, ctx.last = stack, count, stack.passes, inputs_BI[-1].shape[1]
        kernel().stack_forward(  # type: ignore[union-attr]
            _pointer(vector), *stack.shape, stack.count, count, len(x), _pointer(x),
            _pointer(stack.workspace(len(x))), _pointer(outputs_NBO), any(ctx.needs_input_grad),
        )  # fmt: skip
        return outputs_NBO

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        stack, gradient_NBO = ctx.stack, gradients[0].contiguous()
        if ctx.made != stack.passes:
            raise RuntimeError("the gradient of a pass must be taken before the next pass of the same stack")
        _, _, to_vector, *to_inputs = ctx.needs_input_grad
        batch = gradient_NBO.shape[1]
        vector = torch.empty_like(stack.vector) if to_vector else None
        last = gradient_NBO.new_empty(batch, ctx.last) if to_inputs[-1] else None
        kernel().stack_backward(  # type: ignore[union-attr]
            _pointer(stack.vector), *stack.shape, stack.count, ctx.count, batch, _pointer(gradient_NBO),
            _pointer(stack.workspace(batch)), _pointer(vector), _pointer(last), ctx.last,
        )  # fmt: skip
        return None, None, vector, *[None] * (len(to_inputs) - 1), last


def _pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The compiled mlp_stack.c; None without a compiler, or where this CPU does not multiply bfloat16."""
    source = resources.files("compressrl_algorithms").joinpath("mlp_stack.c").read_text()
    try:
        library = ctypes.CDLL(str(c_compiler.shared_library(source)))
    except (c_compiler.CompilerError, OSError):
        return None
    library.stack_workspace_bytes.restype = ctypes.c_long
    return library if library.stack_supported() else None
