"""Adam in one call of the kernel for each tensor."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import torch

from compressrl_algorithms.kernel import Moments, kernel, takes


class Adam(torch.optim.Adam):
    """torch's Adam, whose Python wrappers cost more than its arithmetic on small networks.

    The state, and so the checkpoint, is torch's own either way. Once it is there it stays in its place, so
    that steps can be repeated by their addresses.
    """

    def descend(self, gradients: Sequence[torch.Tensor]) -> None:
        """One step on all parameters, of which these are the gradients in the same order."""
        (group,) = self.param_groups
        library, rows = kernel(), [gradient.contiguous() for gradient in gradients]
        if library is None or not takes(*group["params"], *rows):
            for parameter, gradient in zip(group["params"], gradients, strict=True):
                parameter.grad = gradient
            self.step()
            return
        for parameter, row in zip(group["params"], rows, strict=True):
            moments = ctypes.byref(self.moments(parameter))
            library.adam_step(moments, parameter.data_ptr(), row.data_ptr())

    def moments(self, parameter: torch.Tensor) -> Moments:
        """What a step of this parameter needs, for the kernel; the same object each time."""
        (group,) = self.param_groups
        if parameter not in self._known:
            state = self.state[parameter] or self._begin(parameter)
            pointers = (state[name].data_ptr() for name in ("exp_avg", "exp_avg_sq", "step"))
            self._known[parameter] = Moments(*pointers, parameter.numel(), *group["betas"], 0, group["eps"])
        self._known[parameter].rate = group["lr"]
        return self._known[parameter]

    def take_rate(self, rate: float) -> None:
        """The step size from now on, of steps that are repeated too."""
        (group,) = self.param_groups
        group["lr"] = rate
        for moments in self._known.values():
            moments.rate = rate

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but into the memory that there is."""
        before = {parameter: self.state[parameter] for parameter in self._known}
        super().load_state_dict(state_dict)
        for parameter, tensors in before.items():
            loaded = self.state[parameter]
            for name, tensor in tensors.items():
                tensor.copy_(loaded[name]) if name in loaded else tensor.zero_()
            self.state[parameter] = tensors

    @functools.cached_property
    def _known(self) -> dict[torch.Tensor, Moments]:
        return {}

    def _begin(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        mean, square = torch.zeros_like(parameter.detach()), torch.zeros_like(parameter.detach())
        state = {"step": torch.tensor(0.0), "exp_avg": mean, "exp_avg_sq": square}
        self.state[parameter] = state
        return state
