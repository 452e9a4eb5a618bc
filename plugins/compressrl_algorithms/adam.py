"""Adam in one call of the kernel for each tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from compressrl_algorithms.kernel import kernel, takes


class Adam(torch.optim.Adam):
    """torch's Adam, whose Python wrappers cost more than its arithmetic on small networks.

    The state, and so the checkpoint, is torch's own either way.
    """

    def descend(self, gradients: Sequence[torch.Tensor]) -> None:
        """One step on all parameters, of which these are the gradients in the same order."""
        (group,) = self.param_groups
        library = kernel()
        if library is None or not all(map(takes, group["params"])):
            for parameter, gradient in zip(group["params"], gradients, strict=True):
                parameter.grad = gradient
            self.step()
            return
        (beta1, beta2), epsilon = group["betas"], group["eps"]
        for parameter, gradient in zip(group["params"], gradients, strict=True):
            state = self.state[parameter] or self._begin(parameter)
            library.stack_adam(
                parameter.data_ptr(), gradient.contiguous().data_ptr(), state["exp_avg"].data_ptr(),
                state["exp_avg_sq"].data_ptr(), state["step"].data_ptr(), parameter.numel(), beta1, beta2,
                group["lr"], epsilon,
            )  # fmt: skip

    def _begin(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        mean, square = torch.zeros_like(parameter.detach()), torch.zeros_like(parameter.detach())
        state = {"step": torch.tensor(0.0), "exp_avg": mean, "exp_avg_sq": square}
        self.state[parameter] = state
        return state
