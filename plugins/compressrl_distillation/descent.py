"""Adam's steps of a student down the matching loss of its output function.

The matching loss (Helmbold, Kivinen & Warmuth 1999, "Relative loss bounds for single neurons") is the one
whose gradient by the output before tanh is the action error itself. A squared error would lose its gradient
where tanh is saturated, and one of outputs before tanh would spend itself on differences that no action
shows.
"""

from __future__ import annotations

import torch
from torch import nn

from compressrl_algorithms import networks
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.mlp_stack import MLPStack


class Descent:
    """By autograd, for any row of layers.

    student:    (B, observation_size) -> (B, action_size) in environment units; its last linear layer, the one
                at index `last`, gives the outputs before tanh
    half_range: (action_size,) half of the range of an action
    """

    def __init__(self, student: nn.Sequential, last: int, half_range: torch.Tensor) -> None:
        self.body, self.head, self.half_range = student[: last + 1], student[last + 1 :], half_range
        self.optimizer = self._optimizer()

    def step(self, states_BI: torch.Tensor, actions_BA: torch.Tensor, learning_rate: float) -> float:
        """One update towards these actions; returns the mean action error (before), in half ranges."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        error_BA = self._descend(states_BI, actions_BA)
        return error_BA.abs().mean().item()

    def _optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.body.parameters(), fused=True)

    def _descend(self, states_BI: torch.Tensor, actions_BA: torch.Tensor) -> torch.Tensor:
        before_tanh_BA = self.body(states_BI)
        error_BA = self._error(before_tanh_BA.detach(), actions_BA)
        loss = (error_BA * before_tanh_BA).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return error_BA

    def _error(self, before_tanh_BA: torch.Tensor, actions_BA: torch.Tensor) -> torch.Tensor:
        actions_of_student_BA: torch.Tensor = self.head(before_tanh_BA)
        return (actions_of_student_BA - actions_BA) / self.half_range


class StackDescent(Descent):
    """By the algorithms' kernel.

    first: index of the student's first linear layer; what stands before it (a standardisation) does not learn
    stack: its one network is the student's, whose layers are views of it
    """

    optimizer: Adam

    def __init__(
        self, student: nn.Sequential, first: int, last: int, half_range: torch.Tensor, stack: MLPStack
    ) -> None:
        self.inputs, self.stack = student[:first], stack
        super().__init__(student, last, half_range)

    def _optimizer(self) -> Adam:
        return Adam([self.stack.vector])

    @torch.no_grad()
    def _descend(self, states_BI: torch.Tensor, actions_BA: torch.Tensor) -> torch.Tensor:
        error_BA = self._error(self.stack.learn(self.inputs(states_BI))[0], actions_BA)
        self.stack.descend((error_BA / error_BA.numel()).unsqueeze(0), self.optimizer)
        return error_BA


def descent(student: nn.Sequential, half_range: torch.Tensor) -> Descent:
    """The fastest one that the student allows."""
    modules = list(student)
    linears = [i for i, module in enumerate(modules) if isinstance(module, nn.Linear)]
    first, last = linears[0], linears[-1]
    if any(parameter.requires_grad for parameter in student[:first].parameters()):
        return Descent(student, last, half_range)
    stack = networks.stacked(nn.Sequential(*modules[first:last]), [modules[last]])
    if stack is None:
        return Descent(student, last, half_range)
    return StackDescent(student, first, last, half_range, stack)
