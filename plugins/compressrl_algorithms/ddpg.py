"""Deep Deterministic Policy Gradient (Lillicrap et al. 2015, arXiv 1509.02971, "DDPG" below).

With the settings of "Our DDPG" in the TD3 paper (arXiv 1802.09477, appendix): Gaussian exploration noise and
larger networks and batches, which learn far better than the original ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from compressrl.options import Option
from compressrl_algorithms import elementwise, networks
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.elementwise import Scalar
from compressrl_algorithms.off_policy import Learner, OffPolicyAlgorithm, Setup
from compressrl_algorithms.replay_buffer import Batch


@dataclass(frozen=True)
class DDPG(OffPolicyAlgorithm):
    """Deep Deterministic Policy Gradient."""

    actor_lr: Annotated[float, Option("Adam's step for the actor", low=0)] = 1e-3
    critic_lr: Annotated[float, Option("Adam's step for the critic", low=0)] = 1e-3
    exploration_noise: Annotated[float, Option("std of the noise on actions in (-1, 1)", low=0)] = 0.1

    name: ClassVar[str] = "ddpg"
    critic_count: ClassVar[int] = 1

    def learner(self, setup: Setup) -> DDPGLearner:
        return DDPGLearner(self, setup)


class DDPGLearner(Learner):
    """Networks and updates of DDPG."""

    def __init__(self, options: DDPG, setup: Setup) -> None:
        super().__init__()
        self.options: DDPG = options
        self.actor = setup.actor
        self.network = options.actor(setup)
        self.critics = options.critics(setup, options.critic_count)
        self.target_actor = networks.frozen_copy(self.network)
        self.target_critics = networks.frozen_copy(self.critics)
        self.optimizers = {
            "actor": Adam(self.network.learnt(), options.actor_lr),
            "critics": Adam(self.critics.parameters(), options.critic_lr),
        }

    @torch.no_grad()
    def explore(self, observation_BD: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        heads_BA = self.network.act(observation_BD)
        noise_BA = networks.gaussian_like(heads_BA, generator)
        return elementwise.noisy_tanh(heads_BA, noise_BA, self.options.exploration_noise)

    def update(
        self, batch: Batch, generator: torch.Generator, *, hold_actor: bool = False
    ) -> Mapping[str, Scalar]:
        return self.repeater(self.carry_out, batch, generator, hold_actor=hold_actor, delayed=True)

    def carry_out(
        self, batch: Batch, generator: torch.Generator, *, hold_actor: bool, delayed: bool
    ) -> dict[str, Scalar]:
        """Update the critics; if the delayed ones are due, the actor (unless held) and the targets."""
        values = {"critic_loss": self.update_critics(batch, generator)}
        if delayed and not hold_actor:
            values["actor_loss"] = self.update_actor(batch.observation)
        if delayed:
            self.update_targets()
        return values

    def bellman_target(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        """What the critics learn (B,): DDPG algorithm 1."""
        action_BA = self.target_action(batch.next_observation, generator)
        values_NB = self.target_critics(batch.next_observation, action_BA)
        gamma = self.options.gamma
        return elementwise.bellman_target(batch.reward, batch.not_terminated, values_NB, gamma)

    def target_action(self, observation_BD: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The target actor's action (B, A), at which the next state is valued."""
        return elementwise.tanh(self.target_actor(observation_BD))

    def update_critics(self, batch: Batch, generator: torch.Generator) -> Scalar:
        """Regression on the Bellman target."""
        target_B = self.bellman_target(batch, generator)
        return self.critics.regress(batch.observation, batch.action, target_B, self.optimizers["critics"])

    def update_actor(self, observation_BD: torch.Tensor) -> Scalar:
        """Deterministic policy gradient, DDPG eq. 6: that of the first critic's value through the action."""
        action_BA = elementwise.tanh(self.network.learn(observation_BD))
        loss, of_action_BA = self.critics.value_loss(observation_BD, action_BA, count=1)
        self.network.descend(elementwise.tanh_gradient(action_BA, of_action_BA), self.optimizers["actor"])
        return loss

    def update_targets(self) -> None:
        """Targets follow slowly."""
        networks.polyak(self.target_actor, self.network, self.options.tau)
        networks.polyak(self.target_critics, self.critics, self.options.tau)
