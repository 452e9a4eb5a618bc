"""Soft Actor-Critic (Haarnoja et al. 2018, arXiv 1812.05905, "SAC" below) with a learnt temperature.

Maximises return + alpha * entropy. Two critics against overestimation, a tanh-squashed Gaussian actor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
from torch import nn

from compressrl.options import Option
from compressrl_algorithms import elementwise, networks
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.elementwise import Sample, Scalar
from compressrl_algorithms.off_policy import Learner, OffPolicyAlgorithm, Setup
from compressrl_algorithms.replay_buffer import Batch

# Where a trained actor's exploration and temperature usually end, for one that is trained further.
WARM_LOG_STD, WARM_TEMPERATURE = -2.0, 0.1


class SACLearner(Learner):
    """Networks and updates of SAC."""

    def __init__(self, options: SAC, setup: Setup) -> None:
        super().__init__()
        self.options = options
        self.actor = setup.actor
        features = cast(nn.Linear, setup.actor[-1]).in_features
        self.log_std = networks.linear(features, setup.action_size, setup.generator)
        temperature = options.initial_temperature
        if setup.warm:
            nn.init.zeros_(self.log_std.weight)
            nn.init.constant_(self.log_std.bias, WARM_LOG_STD)
            temperature = WARM_TEMPERATURE
        self.network = options.actor(setup, self.log_std)
        self.critics = options.critics(setup, 2)
        self.targets = networks.frozen_copy(self.critics)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(temperature)))
        self.target_entropy = -float(setup.action_size)  # SAC, appendix D
        self.optimizers = {
            "actor": Adam(self.network.learnt(), options.actor_lr),
            "critics": Adam(self.critics.parameters(), options.critic_lr),
            "temperature": Adam([self.log_alpha], options.temperature_lr),
        }

    @torch.no_grad()
    def explore(self, observation_BD: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        heads_BH = self.network.act(observation_BD)
        return elementwise.squash(heads_BH, self._noise(heads_BH, generator)).action

    def sample(self, observation_BD: torch.Tensor, generator: torch.Generator) -> Sample:
        """Draw an action for each observation."""
        heads_BH = self.network(observation_BD)
        return elementwise.squash(heads_BH, self._noise(heads_BH, generator))

    def _noise(self, heads_BH: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shape = len(heads_BH), heads_BH.shape[1] // 2
        return torch.randn(shape, generator=generator, device=heads_BH.device)

    def update(
        self, batch: Batch, generator: torch.Generator, *, hold_actor: bool = False
    ) -> Mapping[str, Scalar]:
        alpha = self.log_alpha.detach().exp().item()  # inf, where math.exp raises
        values = self.repeater(self._update, batch, generator, hold_actor=hold_actor)
        if hold_actor:
            return values
        log_prob = values["log_prob"]
        actor_loss = values["value_loss"] + alpha * log_prob
        said = {"actor_loss": actor_loss, "temperature": alpha, "entropy": -log_prob}
        return {"critic_loss": values["critic_loss"], **said}

    def _update(self, batch: Batch, generator: torch.Generator, *, hold_actor: bool) -> dict[str, Scalar]:
        target_B = self.bellman_target(batch, generator)
        optimizer = self.optimizers["critics"]
        values = {"critic_loss": self.critics.regress(batch.observation, batch.action, target_B, optimizer)}
        if not hold_actor:
            values |= self._update_actor(batch.observation, generator)
        networks.polyak(self.targets, self.critics, self.options.tau)
        return values

    def bellman_target(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        """Soft Bellman target (B,): SAC eq. 3, with the lower one of two critics; what eq. 5 regresses on."""
        action, log_prob, _ = self.sample(batch.next_observation, generator)
        values_NB = self.targets(batch.next_observation, action)
        return elementwise.bellman_target(
            batch.reward, batch.not_terminated, values_NB, self.options.gamma, (log_prob, self.log_alpha)
        )

    def _update_actor(self, observation_BD: torch.Tensor, generator: torch.Generator) -> dict[str, Scalar]:
        """One step down the mean of alpha log_prob - value, SAC eq. 9; its gradient is eq. 10.

        And one on log(alpha), which keeps alpha positive, as the authors' code does: down -log(alpha)
        (log_prob + target entropy), SAC eq. 18.
        """
        heads_BH = self.network.learn(observation_BD)
        sample = elementwise.squash(heads_BH, self._noise(heads_BH, generator))
        value_loss, of_action_BA = self.critics.value_loss(observation_BD, sample.action)
        gradient_BH = elementwise.squash_gradient(heads_BH, sample, of_action_BA, self.log_alpha)
        self.network.descend(gradient_BH, self.optimizers["actor"])
        log_prob, gradient = elementwise.temperature_gradient(sample.log_prob, self.target_entropy)
        self.optimizers["temperature"].descend([gradient])
        return {"value_loss": value_loss, "log_prob": log_prob}


@dataclass(frozen=True)
class SAC(OffPolicyAlgorithm):
    """Soft Actor-Critic with the defaults of its authors."""

    actor_lr: Annotated[float, Option("Adam's step for the actor", low=0)] = 3e-4
    critic_lr: Annotated[float, Option("Adam's step for the critics", low=0)] = 3e-4
    temperature_lr: Annotated[float, Option("Adam's step for the temperature", low=0)] = 3e-4
    initial_temperature: Annotated[float, Option("temperature at the beginning", low=1e-8)] = 1.0

    name: ClassVar[str] = "sac"

    def learner(self, setup: Setup) -> SACLearner:
        return SACLearner(self, setup)
