"""Trust Region Policy Optimization: Schulman et al. 2015, arXiv 1502.05477."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch

from compressrl.options import Option
from compressrl_algorithms.on_policy import ActorCritic, FlatParameters, OnPolicy, PolicyLearner
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


def gaussian(agent: ActorCritic, observations_BD: torch.Tensor) -> Gaussian:
    return Gaussian(agent.mean(observations_BD), agent.log_std)


def mean_kl(old: Gaussian, new: Gaussian) -> torch.Tensor:
    """KL(old, new) of diagonal Gaussians, in nats, averaged over the batch."""
    variance_ratio = torch.exp(2 * (old.log_std - new.log_std))
    distance = ((old.mean - new.mean) * torch.exp(-new.log_std)).square()
    return 0.5 * (variance_ratio - 1 + 2 * (new.log_std - old.log_std) + distance).sum(1).mean()


def surrogate(agent: ActorCritic, batch: Batch, advantages: torch.Tensor) -> torch.Tensor:
    """Importance-sampled objective L of eq. 14, to be maximised."""
    ratio = torch.exp(agent.log_prob(batch.observations, batch.actions) - batch.log_probs)
    return (ratio * advantages).mean()


def fisher_vector_product(
    agent: ActorCritic, flat: FlatParameters, observations_BD: torch.Tensor, damping: float
) -> LinearMap:
    """Map v to (F + damping I) v, where F is the Hessian of the mean KL at the present policy (App. C).

    The gradient's graph is built once; each product differentiates gradient · v.
    """
    now = gaussian(agent, observations_BD)
    kl = mean_kl(Gaussian(now.mean.detach(), now.log_std.detach()), now)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(kl, flat.parameters, create_graph=True)])

    def product(v: torch.Tensor) -> torch.Tensor:
        columns = torch.autograd.grad(gradient @ v, flat.parameters, retain_graph=True)
        return torch.cat([c.flatten() for c in columns]) + damping * v

    return product


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
    """One natural-gradient step with line search a rollout."""

    def __init__(self, agent: ActorCritic, options: TRPO) -> None:
        self.agent, self.options = agent, options
        self.flat = FlatParameters(agent.policy_parameters())

    def improve(self, batch: Batch, remaining: float, rng: np.random.Generator) -> dict[str, float]:
        step = self.step(batch)
        return {
            "train/surrogate": step.surrogate,
            "train/kl": step.kl,
            "train/line_search_steps": step.tried,
            "train/accepted": step.accepted,
        }

    def step(self, batch: Batch) -> Step:
        """Maximise L subject to mean KL <= delta (eq. 14) along the natural gradient (App. C)."""
        options = self.options
        advantages = (batch.advantages - batch.advantages.mean()) / (
            batch.advantages.std(correction=0) + 1e-8
        )
        objective = surrogate(self.agent, batch, advantages)
        gradients = torch.autograd.grad(objective, self.flat.parameters)
        g = torch.cat([gradient.flatten() for gradient in gradients])
        product = fisher_vector_product(self.agent, self.flat, batch.observations, options.cg_damping)
        s = conjugate_gradient(product, g, options.cg_iterations)
        # The longest step along s that the quadratic model of the KL allows: beta of App. C.
        beta = torch.sqrt(2 * options.max_kl / (s @ product(s)))
        return self.line_search(batch, advantages, beta * s, objective.item())

    @torch.no_grad()
    def line_search(
        self, batch: Batch, advantages: torch.Tensor, full_step: torch.Tensor, objective: float
    ) -> Step:
        """Take the longest shrunken step that improves L within the trust region, or none at all."""
        options, before = self.options, self.flat.vector.detach().clone()
        old = Gaussian(*(tensor.clone() for tensor in gaussian(self.agent, batch.observations)))
        for tried in range(options.line_search_steps):
            self.flat.vector.copy_(before + options.line_search_shrink**tried * full_step)
            kl = mean_kl(old, gaussian(self.agent, batch.observations)).item()
            gain = surrogate(self.agent, batch, advantages).item() - objective
            if gain > 0 and kl <= options.max_kl:
                return Step(gain, kl, tried + 1, accepted=True)
        self.flat.vector.copy_(before)
        return Step(0.0, 0.0, options.line_search_steps, accepted=False)
