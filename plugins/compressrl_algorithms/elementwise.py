"""What the updates do between the passes through networks, with its gradients.

Each function is a dozen torch operations on small tensors, of which dispatch is nearly all the cost: some
20 µs each where the passes between them have emptied the caches. On the CPU it is one call of elementwise.c;
the torch version beside it says what it computes, and is what a GPU executes.

Shapes: B batch, A action, N critics.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from compressrl_algorithms.kernel import kernel, takes
from compressrl_algorithms.rollout_buffer import Batch

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
Scalar = float | torch.Tensor


class Sample(NamedTuple):
    """Actions (B, A) in (-1, 1), their log-density (B,), and how far noise moved them before tanh (B, A)."""

    action: torch.Tensor
    log_prob: torch.Tensor
    moved: torch.Tensor


def squash(heads_BH: torch.Tensor, noise_BA: torch.Tensor) -> Sample:
    """Action tanh(u) and its log-density, u = loc + std * noise: SAC (arXiv 1812.05905) eq. 26.

    heads: loc, then log_std, which is clamped. log(1 - tanh²u) is written as
    2 (log 2 - u - softplus(-2u)), finite where tanh(u) rounds to ±1.
    """
    library, (batch, size) = kernel(), noise_BA.shape
    if library is None or not takes(heads_BH, noise_BA):
        loc_BA, log_std_BA = heads_BH.chunk(2, dim=1)
        log_std_BA = log_std_BA.clamp(LOG_STD_MIN, LOG_STD_MAX)
        moved = log_std_BA.exp() * noise_BA
        u = loc_BA + moved
        gaussian = -0.5 * noise_BA.square() - log_std_BA  # and constants, for all dimensions at the end
        minus_log_slope = 2 * (u + functional.softplus(-2 * u))
        constants = size * (LOG_SQRT_2PI + 2 * math.log(2))
        return Sample(u.tanh(), (gaussian + minus_log_slope).sum(dim=1) - constants, moved)
    sample = Sample(torch.empty(batch, size), torch.empty(batch), torch.empty(batch, size))
    library.squash(
        heads_BH.data_ptr(), noise_BA.data_ptr(), batch, size, LOG_STD_MIN, LOG_STD_MAX,
        *(part.data_ptr() for part in sample),
    )  # fmt: skip
    return sample


def squash_gradient(
    heads_BH: torch.Tensor, sample: Sample, of_action_BA: torch.Tensor, log_alpha: torch.Tensor
) -> torch.Tensor:
    """Gradient of the heads below the mean of alpha log_prob, and below what the action's gradient is of.

    Where u moves, tanh(u) moves by 1 - tanh²(u) and the log-density by 2 tanh(u). Where log_std moves, u does
    by std * noise, and the log-density falls by itself; a clamped log_std does not count.
    """
    library, (batch, size) = kernel(), of_action_BA.shape
    if library is None or not takes(heads_BH, of_action_BA, log_alpha):
        of_log_prob = log_alpha.detach().exp() / batch
        log_std_BA = heads_BH[:, size:]
        of_u_BA = of_action_BA * (1 - sample.action.square()) + 2 * of_log_prob * sample.action
        within = (log_std_BA >= LOG_STD_MIN) & (log_std_BA <= LOG_STD_MAX)
        return torch.cat([of_u_BA, (of_u_BA * sample.moved - of_log_prob) * within], dim=1)
    gradient_BH = torch.empty(batch, 2 * size)
    library.squash_gradient(
        heads_BH.data_ptr(), sample.action.data_ptr(), sample.moved.data_ptr(), of_action_BA.data_ptr(),
        log_alpha.data_ptr(), batch, size, LOG_STD_MIN, LOG_STD_MAX, gradient_BH.data_ptr(),
    )  # fmt: skip
    return gradient_BH


def noisy_tanh(
    heads_BA: torch.Tensor, noise_BA: torch.Tensor, scale: float, most: float = math.inf
) -> torch.Tensor:
    """The action tanh(heads) plus noise times scale, at most `most` of it, within (-1, 1)."""
    library = kernel()
    if library is None or not takes(heads_BA, noise_BA):
        return (heads_BA.tanh() + (scale * noise_BA).clamp(-most, most)).clamp(-1, 1)
    return _tanh(library, heads_BA, noise_BA.data_ptr(), scale, most)


def tanh(heads_BA: torch.Tensor) -> torch.Tensor:
    """The action without noise."""
    library = kernel()
    if library is None or not takes(heads_BA):
        return heads_BA.tanh()
    return _tanh(library, heads_BA, None, 0.0, 0.0)


def _tanh(
    library: ctypes.CDLL, heads_BA: torch.Tensor, noise: int | None, scale: float, most: float
) -> torch.Tensor:
    action_BA = torch.empty_like(heads_BA)
    library.noisy_tanh(heads_BA.data_ptr(), noise, heads_BA.numel(), scale, most, action_BA.data_ptr())
    return action_BA


def tanh_gradient(action_BA: torch.Tensor, of_action_BA: torch.Tensor) -> torch.Tensor:
    """Gradient of the heads of action = tanh(heads), from that of the action."""
    library = kernel()
    if library is None or not takes(action_BA, of_action_BA):
        return of_action_BA * (1 - action_BA.square())
    gradient_BA = torch.empty_like(action_BA)
    library.tanh_gradient(
        action_BA.data_ptr(), of_action_BA.data_ptr(), action_BA.numel(), gradient_BA.data_ptr()
    )
    return gradient_BA


def value_loss(values_NB: torch.Tensor) -> tuple[Scalar, torch.Tensor]:
    """Minus the lowest value of each column, mean over B; and its gradient (N, B)."""
    library, (count, batch) = kernel(), values_NB.shape
    if library is None or not takes(values_NB):
        value_B, lowest_B = values_NB.min(dim=0)
        return -value_B.mean(), torch.zeros_like(values_NB).scatter_(0, lowest_B.unsqueeze(0), -1 / batch)
    gradient_NB = torch.empty(count, batch)
    loss: float = library.value_loss(values_NB.data_ptr(), count, batch, gradient_NB.data_ptr())
    return loss, gradient_NB


def bellman_target(
    reward_B: torch.Tensor,
    not_terminated_B: torch.Tensor,
    values_NB: torch.Tensor,
    gamma: float,
    soft: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Reward and, unless terminated, gamma times the lowest value (B,).

    soft: log_prob (B,) and log_alpha (); alpha log_prob is then subtracted from the value
    """
    library, (count, batch) = kernel(), values_NB.shape
    if library is None or not takes(values_NB):
        value_B = values_NB.amin(dim=0)
        if soft:
            value_B = value_B - soft[1].detach().exp() * soft[0]
        return reward_B + gamma * not_terminated_B * value_B
    target_B = torch.empty(batch)
    library.bellman_target(
        reward_B.data_ptr(), reward_B.stride(0), not_terminated_B.data_ptr(), not_terminated_B.stride(0),
        values_NB.data_ptr(), count, batch, *((part.data_ptr() for part in soft) if soft else (None, None)),
        gamma, target_B.data_ptr(),
    )  # fmt: skip
    return target_B


def temperature_gradient(log_prob_B: torch.Tensor, target_entropy: float) -> tuple[Scalar, torch.Tensor]:
    """The mean of log_prob, and the gradient () of log_alpha below minus log_alpha (log_prob + target)."""
    library = kernel()
    if library is None or not takes(log_prob_B):
        mean = log_prob_B.mean()
        return mean, -(mean + target_entropy)
    gradient = torch.empty(())
    mean = library.temperature_gradient(
        log_prob_B.data_ptr(), len(log_prob_B), target_entropy, gradient.data_ptr()
    )
    return mean, gradient


def squared_error(values_NB: torch.Tensor, target_B: torch.Tensor) -> tuple[Scalar, torch.Tensor]:
    """Half the squared error, mean over B, summed over N; and its gradient (N, B)."""
    library, (count, batch) = kernel(), values_NB.shape
    if library is None or not takes(values_NB, target_B):
        error_NB = values_NB - target_B
        return 0.5 * error_NB.square().mean(dim=1).sum(), error_NB / batch
    gradient_NB = torch.empty(count, batch)
    loss: float = library.squared_error(
        values_NB.data_ptr(), target_B.data_ptr(), count, batch, gradient_NB.data_ptr()
    )
    return loss, gradient_NB


class Surrogate(NamedTuple):
    """PPO's loss on a minibatch with its gradients.

    said: (3,) float64: the loss; an estimate of the KL divergence between the policy that acted and this one,
          in nats; the share of the samples outside the clip range
    """

    said: torch.Tensor
    of_mean: torch.Tensor  # (B, A)
    of_log_std: torch.Tensor  # (A,)

    @property
    def loss(self) -> float:
        return self.said[0].item()

    @property
    def approximate_kl(self) -> float:
        return self.said[1].item()

    @property
    def clipped(self) -> float:
        return self.said[2].item()


@torch.no_grad()
def clipped_surrogate(
    mean_BA: torch.Tensor, log_std_A: torch.Tensor, batch: Batch, clip: float, entropy: float
) -> Surrogate:
    """Negative clipped surrogate objective with entropy bonus: PPO (arXiv 1707.06347) eq. 7, last term of 9.

    Advantages are normalised in each minibatch, so that the step does not depend on the scale of the returns.
    The KL divergence is estimated without bias, never below 0, with low variance (Schulman 2020, "k3").
    Where the minimum takes the clipped ratio, there is no gradient.
    """
    library, (count, size) = kernel(), mean_BA.shape
    given = mean_BA, log_std_A, batch.actions, batch.log_probs, batch.advantages
    if library is None or not takes(*given):
        z_BA = (batch.actions - mean_BA) * torch.exp(-log_std_A)
        log_prob_B = -0.5 * z_BA.square().sum(1) - log_std_A.sum() - LOG_SQRT_2PI * size
        log_ratio_B = log_prob_B - batch.log_probs
        ratio_B = log_ratio_B.exp()
        centred_B = batch.advantages - batch.advantages.mean()
        advantage_B = centred_B / (centred_B.square().mean().sqrt() + 1e-8)
        free_B, held_B = ratio_B * advantage_B, ratio_B.clamp(1 - clip, 1 + clip) * advantage_B
        of_log_prob_B1 = torch.where(free_B <= held_B, -free_B / count, 0.0).unsqueeze(1)
        loss = -torch.minimum(free_B, held_B).mean() - entropy * log_std_A.sum()
        divergence, clipped = (ratio_B - 1 - log_ratio_B).mean(), ((ratio_B - 1).abs() > clip).float().mean()
        return Surrogate(
            torch.stack([loss, divergence, clipped]).double(),
            of_log_prob_B1 * z_BA * torch.exp(-log_std_A),
            (of_log_prob_B1 * (z_BA.square() - 1)).sum(0) - entropy,
        )
    said = torch.empty(3, dtype=torch.float64)
    of_mean_BA, of_log_std_A = torch.empty(count, size), torch.empty(size)
    library.clipped_surrogate(
        *(part.data_ptr() for part in given), count, size, clip, entropy,
        of_mean_BA.data_ptr(), of_log_std_A.data_ptr(), said.data_ptr(),
    )  # fmt: skip
    return Surrogate(said, of_mean_BA, of_log_std_A)


@torch.no_grad()
def clip_norm(gradients: Sequence[torch.Tensor], most: float) -> None:
    """Scale the gradients, in place, so that the norm of all of them together is `most` where it was more."""
    library = kernel()
    if library is None or len(gradients) != 2 or not takes(*gradients):
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
        if norm > most:
            for gradient in gradients:
                gradient.mul_(most / norm)
        return
    one, other = gradients
    library.clip_norm(one.data_ptr(), one.numel(), other.data_ptr(), other.numel(), most)


def polyak(target: torch.Tensor, source: torch.Tensor, tau: float) -> None:
    """Move target to (1 - tau) target + tau source."""
    library = kernel()
    if library is None or not takes(target, source):
        target.lerp_(source, tau)
    else:
        library.polyak(target.data_ptr(), source.data_ptr(), target.numel(), tau)
