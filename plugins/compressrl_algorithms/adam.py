"""Adam in one call of the kernel for each tensor."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from compressrl_algorithms.kernel import Moments, kernel, takes


class Adam(torch.optim.Adam):
    """torch's Adam, whose Python wrappers cost more than its arithmetic on small networks.

    The state, and so the checkpoint, is torch's own either way.
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
        """What a step of this parameter needs, for the kernel: valid until a state is loaded."""
        (group,) = self.param_groups
        state = self.state[parameter] or self._begin(parameter)
        pointers = (state[name].data_ptr() for name in ("exp_avg", "exp_avg_sq", "step"))
        return Moments(*pointers, parameter.numel(), *group["betas"], group["lr"], group["eps"])

    def _begin(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        mean, square = torch.zeros_like(parameter.detach()), torch.zeros_like(parameter.detach())
        state = {"step": torch.tensor(0.0), "exp_avg": mean, "exp_avg_sq": square}
        self.state[parameter] = state
        return state
