"""Proximal Policy Optimization: Schulman et al. 2017, arXiv 1707.06347."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch

from compressrl.options import Option
from compressrl_algorithms import elementwise
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.elementwise import Surrogate
from compressrl_algorithms.minibatches import Minibatches
from compressrl_algorithms.on_policy import ADAM_EPSILON, ActorCritic, OnPolicy, PolicyLearner
from compressrl_algorithms.recording import Repeater
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
    max_gradient: Annotated[float, Option("norm to which the policy's gradient is clipped", low=1e-6)] = 0.5
    target_kl: Annotated[
        float, Option("passes stop when the KL divergence exceeds 1.5 times this", low=1e-6)
    ] = 0.03

    def learner(self, agent: ActorCritic) -> PPOLearner:
        return PPOLearner(agent, self)


class PPOLearner(PolicyLearner):
    """Several passes of minibatch Adam over one rollout (Algorithm 1)."""

    def __init__(self, agent: ActorCritic, options: PPO) -> None:
        self.agent, self.options = agent, options
        self.actor = agent.actor()
        parameters = [*self.actor.learnt(), agent.log_std]
        self.optimizer = Adam(parameters, options.learning_rate, eps=ADAM_EPSILON)
        self.minibatches, self.repeater = Minibatches(), Repeater()

    def improve(self, batch: Batch, remaining: float, rng: np.random.Generator) -> dict[str, float]:
        self.optimizer.take_rate(self.options.learning_rate * remaining)
        outcome, updates = self._passes(batch, rng)
        return {
            "train/policy_loss": outcome.loss,
            "train/kl": outcome.approximate_kl,
            "train/clipped": outcome.clipped,
            "train/policy_updates": updates,
        }

    @torch.no_grad()
    def _passes(self, batch: Batch, rng: np.random.Generator) -> tuple[Surrogate, int]:
        """The last loss, and the number of updates until the passes ended or the KL stopped them."""
        options, updates = self.options, 0
        for _ in range(options.epochs):
            for part in self.minibatches.draw(batch, options.batch_size, rng):
                outcome = Surrogate(**self.repeater(self._judge, *part))
                if outcome.approximate_kl > 1.5 * options.target_kl:
                    return outcome, updates
                self.repeater(self._descend, outcome.of_mean, outcome.of_log_std)
                updates += 1
        return outcome, updates

    def _judge(self, *part: torch.Tensor) -> dict[str, torch.Tensor]:
        batch, options = Batch(*part), self.options
        mean = self.actor.learn(batch.observations)
        return elementwise.clipped_surrogate(
            mean, self.agent.log_std, batch, options.clip, options.entropy
        )._asdict()

    def _descend(self, of_mean_BA: torch.Tensor, of_log_std_A: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step, from the gradients of the latest outcome."""
        gradients = [*self.actor.gradients(of_mean_BA), of_log_std_A]
        elementwise.clip_norm(gradients, self.options.max_gradient)
        self.optimizer.descend(gradients)
        return {}

    def state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
