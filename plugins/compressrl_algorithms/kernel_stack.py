"""An MLPStack that is evaluated and differentiated in bfloat16 by mlp_stack.c.

An update of an off-policy algorithm is a dozen passes through small networks, in which autograd, dispatch and
conversions cost more than the products. Here a pass is one call, and so is its gradient. Parameters, outputs
and gradients are float32.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from compressrl_algorithms.kernel import kernel, scratch, takes
from compressrl_algorithms.mlp_stack import MLPStack


def make(sizes: Sequence[int], count: int, *, bfloat16: bool) -> MLPStack:
    """A stack that multiplies in bfloat16 if asked to and where this machine can."""
    return KernelStack(sizes, count) if bfloat16 and kernel() else MLPStack(sizes, count)


class Memory(NamedTuple):
    """What the kernel works with for one batch size."""

    library: ctypes.CDLL
    shape: tuple[Any, int]  # sizes and number of layers
    batch: int
    kept: torch.Tensor  # of the latest pass, for its gradient
    scratch: int  # bytes


class Pass(NamedTuple):
    """What was called last: it has filled the memory, from which the gradient comes."""

    memory: Memory
    networks: int  # the first so many
    columns: int  # of the last input, whose gradient is wanted; 0: that of the parameters


class KernelStack(MLPStack):
    """Shapes and meanings are MLPStack's, which also takes batches that are odd or not in this memory."""

    forgotten = MLPStack.forgotten | {"memories", "parameter_gradient"}

    def forward(self, *inputs_BI: torch.Tensor) -> torch.Tensor:
        return self._call(0, self.count, inputs_BI) if self._takes(inputs_BI) else super().forward(*inputs_BI)

    def learn(self, *inputs_BI: torch.Tensor) -> torch.Tensor:
        return self._call(0, self.count, inputs_BI) if self._takes(inputs_BI) else super().learn(*inputs_BI)

    def probe(self, *inputs_BI: torch.Tensor, count: int | None = None) -> torch.Tensor:
        if not self._takes(inputs_BI):
            return super().probe(*inputs_BI, count=count)
        return self._call(inputs_BI[-1].shape[1], count or self.count, inputs_BI)

    def gradient(self, of_outputs: torch.Tensor) -> torch.Tensor:
        """As MLPStack's; that of the parameters is overwritten by the next one."""
        if not isinstance(self.latest, Pass):
            return super().gradient(of_outputs)
        memory, count, columns = self.latest
        of_outputs = of_outputs.contiguous()
        gradient = of_outputs.new_empty(memory.batch, columns) if columns else self.parameter_gradient
        targets = (None, gradient.data_ptr()) if columns else (gradient.data_ptr(), None)
        memory.library.stack_backward(
            self.vector.data_ptr(), *memory.shape, self.count, count, memory.batch, of_outputs.data_ptr(),
            memory.kept.data_ptr(), scratch(memory.scratch), *targets, columns,
        )  # fmt: skip
        return gradient

    def act(self, x_1I: torch.Tensor) -> torch.Tensor:
        if len(x_1I) != 1 or not takes(self.vector):
            return super().act(x_1I)
        memory, output_1O = self._memory(1), torch.empty(1, self.sizes[-1])
        memory.library.stack_act(
            self.vector.data_ptr(), *memory.shape, self.count, x_1I.contiguous().data_ptr(),
            scratch(memory.scratch), output_1O.data_ptr(),
        )  # fmt: skip
        return output_1O

    def _takes(self, inputs_BI: tuple[torch.Tensor, ...]) -> bool:
        # The kernel takes rows of a batch in pairs.
        return len(inputs_BI[0]) % 2 == 0 and takes(self.vector)

    def _call(self, columns: int, count: int, inputs_BI: tuple[torch.Tensor, ...]) -> torch.Tensor:
        memory = self._memory(len(inputs_BI[0]))
        outputs_NBO = torch.empty(count, memory.batch, self.sizes[-1])
        x, *more = [x if x.stride(1) == 1 else x.contiguous() for x in inputs_BI]
        second = (more[0].data_ptr(), more[0].stride(0), more[0].shape[1]) if more else (None, 0, 0)
        memory.library.stack_forward(
            self.vector.data_ptr(), *memory.shape, self.count, count, memory.batch, x.data_ptr(), x.stride(0),
            *second, memory.kept.data_ptr(), scratch(memory.scratch), outputs_NBO.data_ptr(),
        )  # fmt: skip
        self.latest = Pass(memory, count, columns)
        return outputs_NBO

    def _memory(self, batch: int) -> Memory:
        if batch not in self.memories:
            library, sizes = kernel(), self.sizes
            assert library is not None
            shape = (ctypes.c_int * len(sizes))(*sizes), len(sizes) - 1
            kept = torch.empty(library.stack_kept_bytes(*shape, self.count, batch), dtype=torch.uint8)
            needed = library.stack_scratch_bytes(*shape, batch)
            self.memories[batch] = Memory(library, shape, batch, kept, needed)
        return self.memories[batch]

    @functools.cached_property
    def memories(self) -> dict[int, Memory]:
        """By batch size."""
        return {}

    @functools.cached_property
    def parameter_gradient(self) -> torch.Tensor:
        return torch.empty_like(self.vector, requires_grad=False)
