"""An MLPStack that is evaluated and differentiated by mlp_stack.c, in float32, bfloat16 or int16.

An update is a dozen passes through small networks, in which autograd, dispatch and conversions cost more than
the products. Here a pass is one call, and so is its gradient. Parameters, outputs and gradients are float32.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from compressrl_algorithms import recording
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.elementwise import Scalar
from compressrl_algorithms.kernel import Inputs, Numbers, Stack, kernel, scratch, takes
from compressrl_algorithms.mlp_stack import Activation, MLPStack


def make(
    sizes: Sequence[int], count: int, *, numbers: Numbers = "float32", activation: Activation = "relu"
) -> MLPStack:
    """A stack of C that multiplies in such numbers where it can, else in float32; plain without a compiler.

    The kernel, of this and all other stacks, then has as many threads as torch has now.
    """
    if kernel(numbers) is None:
        numbers = "float32"
    library = kernel(numbers)
    if library is None:
        return MLPStack(sizes, count, activation)
    library.use_threads(torch.get_num_threads())
    return KernelStack(sizes, count, activation, numbers=numbers)


class Memory(NamedTuple):
    """What the kernel works with for one batch size."""

    library: ctypes.CDLL
    stack: Stack
    room: tuple[Any, ...]  # that the stack points to
    scratch: int  # bytes


class Pass(NamedTuple):
    """What was called last: it has filled the memory, from which the gradient comes."""

    memory: Memory
    networks: int  # the first so many
    columns: int  # of the last input, whose gradient is wanted; 0: that of the parameters


class KernelStack(MLPStack):
    """Shapes and meanings are MLPStack's, which also takes batches that are odd or not in this memory."""

    forgotten = MLPStack.forgotten | {"memories", "parameter_gradient"}

    def __init__(
        self, sizes: Sequence[int], count: int, activation: Activation = "relu", *, numbers: Numbers
    ) -> None:
        super().__init__(sizes, count, activation)
        self.numbers = numbers

    def forward(self, *inputs_BI: torch.Tensor) -> torch.Tensor:
        if not self._takes(inputs_BI):
            return super().forward(*inputs_BI)
        return self._call(self._memory(len(inputs_BI[0])), self.count, inputs_BI, keep=False)

    def learn(self, *inputs_BI: torch.Tensor) -> torch.Tensor:
        if not self._takes(inputs_BI):
            return super().learn(*inputs_BI)
        memory = self._memory(len(inputs_BI[0]))
        self._remember(Pass(memory, self.count, 0))
        return self._call(memory, self.count, inputs_BI, keep=True)

    def probe(self, *inputs_BI: torch.Tensor, count: int | None = None) -> torch.Tensor:
        if not self._takes(inputs_BI):
            return super().probe(*inputs_BI, count=count)
        memory, count = self._memory(len(inputs_BI[0])), count or self.count
        self._remember(Pass(memory, count, inputs_BI[-1].shape[1]))
        return self._call(memory, count, inputs_BI, keep=True)

    def gradient(self, of_outputs: torch.Tensor, *, retain: bool = False) -> torch.Tensor:
        """As MLPStack's; that of the parameters is overwritten by the next one."""
        if not isinstance(self.latest, Pass):
            return super().gradient(of_outputs, retain=retain)
        memory, count, columns = self.latest
        self._remember(self.latest if retain else None)
        of_outputs = of_outputs.contiguous()
        gradient = of_outputs.new_empty(memory.stack.batch, columns) if columns else self.parameter_gradient
        targets = (None, gradient.data_ptr()) if columns else (gradient.data_ptr(), None)
        memory.library.stack_backward(
            ctypes.byref(memory.stack),
            count,
            of_outputs.data_ptr(),
            scratch(memory.scratch),
            *targets,
            columns,
        )
        return gradient

    def tangent(self, direction: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.latest, Pass):
            return super().tangent(direction)
        if self.latest.columns:
            raise RuntimeError("The latest pass is of an input: call learn first.")
        memory, direction = self.latest.memory, direction.contiguous()
        outputs_NBO = torch.empty(self.count, memory.stack.batch, self.sizes[-1])
        memory.library.stack_tangent(
            ctypes.byref(memory.stack),
            direction.data_ptr(),
            scratch(memory.scratch),
            outputs_NBO.data_ptr(),
        )
        return outputs_NBO

    def descend(self, of_outputs: torch.Tensor, optimizer: Adam) -> None:
        if not isinstance(self.latest, Pass):
            super().descend(of_outputs, optimizer)
            return
        memory, of_outputs = self.latest.memory, of_outputs.contiguous()
        memory.library.stack_descend(
            ctypes.byref(memory.stack),
            self._moments(optimizer),
            of_outputs.data_ptr(),
            scratch(memory.scratch),
        )
        self._remember(None)

    def regress(self, target_B: torch.Tensor, *inputs_BI: torch.Tensor, optimizer: Adam) -> Scalar:
        if not (self._takes(inputs_BI) and takes(target_B)):
            return super().regress(target_B, *inputs_BI, optimizer=optimizer)
        memory, (inputs, _alive) = self._memory(len(target_B)), _inputs(inputs_BI)
        loss: float = memory.library.stack_regress(
            ctypes.byref(memory.stack),
            self._moments(optimizer),
            inputs,
            target_B.data_ptr(),
            scratch(memory.scratch),
        )
        self._remember(None)
        return loss

    def value_loss(self, *inputs_BI: torch.Tensor, count: int | None = None) -> tuple[Scalar, torch.Tensor]:
        if not self._takes(inputs_BI):
            return super().value_loss(*inputs_BI, count=count)
        memory, (inputs, _alive) = self._memory(len(inputs_BI[0])), _inputs(inputs_BI)
        gradient_BI = torch.empty_like(inputs_BI[-1], memory_format=torch.contiguous_format)
        loss: float = memory.library.stack_value_loss(
            ctypes.byref(memory.stack),
            count or self.count,
            inputs,
            scratch(memory.scratch),
            gradient_BI.data_ptr(),
        )
        self._remember(None)
        return loss, gradient_BI

    def act(self, x_1I: torch.Tensor) -> torch.Tensor:
        if len(x_1I) != 1 or not takes(self.vector):
            return super().act(x_1I)
        memory, x_1I, output_1O = self._memory(1), x_1I.contiguous(), torch.empty(1, self.sizes[-1])
        memory.library.stack_act(
            ctypes.byref(memory.stack),
            x_1I.data_ptr(),
            scratch(memory.scratch),
            output_1O.data_ptr(),
        )
        return output_1O

    def _takes(self, inputs_BI: tuple[torch.Tensor, ...]) -> bool:
        # The kernel takes rows of a batch in pairs.
        return len(inputs_BI[0]) % 2 == 0 and takes(self.vector)

    def _call(
        self, memory: Memory, count: int, inputs_BI: tuple[torch.Tensor, ...], *, keep: bool
    ) -> torch.Tensor:
        outputs_NBO = torch.empty(count, memory.stack.batch, self.sizes[-1])
        inputs, _alive = _inputs(inputs_BI)
        memory.library.stack_forward(
            ctypes.byref(memory.stack), count, inputs, keep, scratch(memory.scratch), outputs_NBO.data_ptr()
        )
        return outputs_NBO

    def _remember(self, latest: Pass | None) -> None:
        recording.carry_out(self.__dict__.__setitem__, "latest", latest)

    def _moments(self, optimizer: Adam) -> Any:
        return ctypes.byref(optimizer.moments(self.vector))

    def _memory(self, batch: int) -> Memory:
        if batch not in self.memories:
            library, layers = kernel(self.numbers), len(self.sizes) - 1
            assert library is not None
            sizes = (ctypes.c_int * (layers + 1))(*self.sizes)
            kept = torch.empty(library.stack_kept_bytes(sizes, layers, self.count, batch), dtype=torch.uint8)
            values = torch.empty(self.count, batch, self.sizes[-1])
            rooms = (self.vector, kept, values, self.parameter_gradient)
            addresses = (room.data_ptr() for room in rooms)
            shape = layers, self.count, batch, self.activation == "tanh"
            stack = Stack(ctypes.addressof(sizes), *shape, *addresses)
            needed = library.stack_scratch_bytes(sizes, layers, batch)
            self.memories[batch] = Memory(library, stack, (sizes, *rooms), needed)
        return self.memories[batch]

    @functools.cached_property
    def memories(self) -> dict[int, Memory]:
        """By batch size."""
        return {}

    @functools.cached_property
    def parameter_gradient(self) -> torch.Tensor:
        return torch.empty_like(self.vector, requires_grad=False)


def _inputs(inputs_BI: tuple[torch.Tensor, ...]) -> tuple[Any, list[torch.Tensor]]:
    """The inputs for the kernel, and the tensors that it points to."""
    x, *more = alive = [x if x.stride(1) == 1 else x.contiguous() for x in inputs_BI]
    y, y_stride, y_columns = (
        (more[0].data_ptr(), more[0].stride(0), more[0].shape[1]) if more else (None, 0, 0)
    )
    return ctypes.byref(Inputs(x.data_ptr(), y, x.stride(0), y_stride, y_columns)), alive
