"""Proximal Policy Optimization: Schulman et al. 2017, arXiv 1707.06347."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from compressrl.options import Option
from compressrl_algorithms.on_policy import ActorCritic, FlatParameters, OnPolicy, PolicyLearner, minibatches
from compressrl_algorithms.rollout_buffer import Batch


@dataclass(frozen=True, kw_only=True)
class PPO(OnPolicy):
    """PPO with the clipped surrogate."""

    name: ClassVar[str] = "ppo"

    learning_rate: Annotated[float, Option("Adam's step size for the policy, annealed to 0", low=0)] = 3e-4
    epochs: Annotated[int, Option("passes of the policy over a rollout", low=1)] = 10
    batch_size: Annotated[int, Option("minibatch of the policy", low=2)] = 64
    clip: Annotated[float, Option("epsilon: how far the ratio may leave 1", low=0.01, high=1)] = 0.2
    entropy: Annotated[float, Option("weight of the entropy bonus", low=0)] = 0.0
    max_gradient: Annotated[float, Option("norm to which the policy's gradient is clipped", low=0)] = 0.5
    target_kl: Annotated[
        float, Option("passes stop when the KL divergence exceeds 1.5 times this", low=0)
    ] = 0.03

    def learner(self, agent: ActorCritic) -> PPOLearner:
        return PPOLearner(agent, self)


class PPOLoss(NamedTuple):
    """Loss of one minibatch, and what it says about the step so far."""

    loss: torch.Tensor
    approximate_kl: torch.Tensor  # nats, between the policy that acted and this one
    clipped: torch.Tensor  # share of the samples outside the clip range


def ppo_loss(agent: ActorCritic, batch: Batch, clip: float, entropy: float) -> PPOLoss:
    """Negative clipped surrogate objective with entropy bonus: eq. 7 and the last term of eq. 9."""
    log_ratio = agent.log_prob(batch.observations, batch.actions) - batch.log_probs
    ratio = log_ratio.exp()
    # Normalised in each minibatch, so that the step size does not depend on the scale of the returns.
    advantages = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std(correction=0) + 1e-8)
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()
    loss = -surrogate
    if entropy:
        loss = loss - entropy * agent.log_std.sum()  # the Gaussian's entropy up to a constant
    with torch.no_grad():
        # Unbiased, non-negative estimate of KL(old, new) with low variance (Schulman 2020, "k3").
        kl = (ratio - 1 - log_ratio).mean()
        return PPOLoss(loss, kl, ((ratio - 1).abs() > clip).float().mean())


class PPOLearner(PolicyLearner):
    """Several passes of minibatch Adam over one rollout (Algorithm 1)."""

    def __init__(self, agent: ActorCritic, options: PPO) -> None:
        self.agent, self.options = agent, options
        self.flat = FlatParameters(agent.policy_parameters())
        self.optimizer = self.flat.adam(options.learning_rate)

    def improve(self, batch: Batch, remaining: float, rng: np.random.Generator) -> dict[str, float]:
        self.optimizer.param_groups[0]["lr"] = self.options.learning_rate * remaining
        outcome, updates = self._passes(batch, rng)
        return {
            "train/policy_loss": outcome.loss.item(),
            "train/kl": outcome.approximate_kl.item(),
            "train/clipped": outcome.clipped.item(),
            "train/policy_updates": updates,
        }

    def _passes(self, batch: Batch, rng: np.random.Generator) -> tuple[PPOLoss, int]:
        """The last loss, and the number of updates until the passes ended or the KL stopped them."""
        options, updates = self.options, 0
        for _ in range(options.epochs):
            for rows in minibatches(len(batch.returns), options.batch_size, rng):
                outcome = ppo_loss(self.agent, batch.select(rows), options.clip, options.entropy)
                if outcome.approximate_kl > 1.5 * options.target_kl:
                    return outcome, updates
                self.flat.gradient.zero_()
                outcome.loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.flat.vector, options.max_gradient)
                self.optimizer.step()
                updates += 1
        return outcome, updates

    def state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
