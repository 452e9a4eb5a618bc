"""Trust Region Policy Optimization: Schulman et al. 2015, arXiv 1502.05477."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch

from compressrl.options import Option
from compressrl_algorithms import elementwise
from compressrl_algorithms.elementwise import Surrogate
from compressrl_algorithms.on_policy import ActorCritic, OnPolicy, PolicyLearner
from compressrl_algorithms.rollout_buffer import Batch

LinearMap = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class TRPO(OnPolicy):
    """TRPO: natural-gradient steps of bounded KL divergence."""

    name: ClassVar[str] = "trpo"

    max_kl: Annotated[float, Option("delta: mean KL divergence of one step, in nats", low=1e-6)] = 0.04
    cg_iterations: Annotated[int, Option("iterations of the conjugate gradient", low=1)] = 15
    cg_damping: Annotated[float, Option("multiple of the identity added to the Fisher matrix", low=0)] = 0.1
    line_search_steps: Annotated[int, Option("step sizes tried before the step is given up", low=1)] = 10
    line_search_shrink: Annotated[float, Option("step size over the one before", low=0.1, high=0.95)] = 0.8

    def learner(self, agent: ActorCritic) -> TRPOLearner:
        return TRPOLearner(agent, self)


class Gaussian(NamedTuple):
    """A policy's distributions on a batch."""

    mean: torch.Tensor  # (B, A)
    log_std: torch.Tensor  # (A,)


def mean_kl(old: Gaussian, new: Gaussian) -> torch.Tensor:
    """KL(old, new) of diagonal Gaussians, in nats, averaged over the batch."""
    variance_ratio = torch.exp(2 * (old.log_std - new.log_std))
    distance = ((old.mean - new.mean) * torch.exp(-new.log_std)).square()
    return 0.5 * (variance_ratio - 1 + 2 * (new.log_std - old.log_std) + distance).sum(1).mean()


def surrogate(now: Gaussian, batch: Batch) -> Surrogate:
    """Importance-sampled objective L of eq. 14, as the loss -L: it is PPO's, unclipped."""
    return elementwise.clipped_surrogate(*now, batch, math.inf, 0.0)


def conjugate_gradient(product: LinearMap, b: torch.Tensor, iterations: int) -> torch.Tensor:
    """Solve product(x) = b for a symmetric positive definite map (Hestenes & Stiefel 1952)."""
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    squared = residual @ residual
    for _ in range(iterations):
        if squared < 1e-10:
            break
        image = product(direction)
        step = squared / (direction @ image)
        x += step * direction
        residual -= step * image
        squared, previous = residual @ residual, squared
        direction = residual + squared / previous * direction
    return x


class Step(NamedTuple):
    """The outcome of one trust-region step."""

    surrogate: float  # improvement of the objective; 0 where no step was accepted
    kl: float  # nats
    tried: int  # step sizes tried
    accepted: bool


class TRPOLearner(PolicyLearner):
    """One natural-gradient step with line search a rollout.

    Vectors (P,) hold the parameters of the mean, then log std.
    """

    def __init__(self, agent: ActorCritic, options: TRPO) -> None:
        self.agent, self.options = agent, options
        self.actor = agent.actor()
        self.parameters = [*self.actor.learnt(), agent.log_std]
        self.sizes = [parameter.numel() for parameter in self.parameters]

    def improve(self, batch: Batch, remaining: float, rng: np.random.Generator) -> dict[str, float]:
        step = self.step(batch)
        return {
            "train/surrogate": step.surrogate,
            "train/kl": step.kl,
            "train/line_search_steps": step.tried,
            "train/accepted": step.accepted,
        }

    @torch.no_grad()
    def step(self, batch: Batch) -> Step:
        """Maximise L subject to mean KL <= delta (eq. 14) along the natural gradient (App. C)."""
        options, log_std = self.options, self.agent.log_std
        old = Gaussian(self.actor.learn(batch.observations), log_std.clone())
        before = surrogate(old, batch)
        g = -self._vector(before.of_mean, before.of_log_std)
        s = conjugate_gradient(self.fisher_vector_product, g, options.cg_iterations)
        # The longest step along s that the quadratic model of the KL allows: beta of App. C.
        beta = torch.sqrt(2 * options.max_kl / (s @ self.fisher_vector_product(s)))
        return self.line_search(batch, old, beta * s, -before.loss)

    def fisher_vector_product(self, v: torch.Tensor) -> torch.Tensor:
        """(F + damping I) v, where F is the Hessian of the mean KL at the policy of the latest pass (App. C).

        There the KL is at its minimum, so that F is Jᵀ H J: J is the Jacobian of the means and log std, H the
        Hessian by these, which is 1 / std² for a mean and 2 for log std.
        """
        *directions, of_log_std = self._parts(v)
        moved_BA = self.actor.tangent(directions)
        of_mean_BA = moved_BA * torch.exp(-2 * self.agent.log_std) / len(moved_BA)
        return self._vector(of_mean_BA, 2 * of_log_std) + self.options.cg_damping * v

    def line_search(self, batch: Batch, old: Gaussian, full_step: torch.Tensor, objective: float) -> Step:
        """Take the longest shrunken step that improves L within the trust region, or none at all."""
        options, before = self.options, [parameter.clone() for parameter in self.parameters]
        for tried in range(options.line_search_steps):
            self._move(before, options.line_search_shrink**tried * full_step)
            new = Gaussian(self.actor(batch.observations), self.agent.log_std)
            kl = mean_kl(old, new).item()
            gain = -surrogate(new, batch).loss - objective
            if gain > 0 and kl <= options.max_kl:
                return Step(gain, kl, tried + 1, accepted=True)
        for parameter, old_value in zip(self.parameters, before, strict=True):
            parameter.copy_(old_value)
        return Step(0.0, 0.0, options.line_search_steps, accepted=False)

    def _vector(self, of_mean_BA: torch.Tensor, of_log_std_A: torch.Tensor) -> torch.Tensor:
        """Gradient of all parameters, from that of the distributions of the latest pass."""
        gradients = self.actor.gradients(of_mean_BA, retain=True)
        return torch.cat([*(gradient.flatten() for gradient in gradients), of_log_std_A])

    def _parts(self, vector: torch.Tensor) -> list[torch.Tensor]:
        parts = torch.split(vector, self.sizes)
        return [part.view_as(parameter) for part, parameter in zip(parts, self.parameters, strict=True)]

    def _move(self, before: Sequence[torch.Tensor], step: torch.Tensor) -> None:
        for parameter, old, part in zip(self.parameters, before, self._parts(step), strict=True):
            parameter.copy_(old + part)
