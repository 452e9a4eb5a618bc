"""Soft Actor-Critic (Haarnoja et al. 2018, arXiv 1812.05905, "SAC" below) with a learnt temperature.

Maximises return + alpha * entropy. Two critics against overestimation, a tanh-squashed Gaussian actor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional

from compressrl.options import Option
from compressrl_algorithms import networks
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.off_policy import Learner, OffPolicyAlgorithm, Setup
from compressrl_algorithms.replay_buffer import Batch

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
# Where a trained actor's exploration and temperature usually end, for one that is trained further.
WARM_LOG_STD, WARM_TEMPERATURE = -2.0, 0.1


class Sample(NamedTuple):
    """Actions (B, A) in (-1, 1), their log-density (B,), and how far noise moved them before tanh (B, A)."""

    action: torch.Tensor
    log_prob: torch.Tensor
    moved: torch.Tensor


def squash(loc_BA: torch.Tensor, log_std_BA: torch.Tensor, noise_BA: torch.Tensor) -> Sample:
    """Action tanh(u) and its log-density, u = loc + std * noise: SAC eq. 26 (appendix C).

    log(1 - tanh²u) is written as 2 (log 2 - u - softplus(-2u)), finite where tanh(u) rounds to ±1.
    """
    moved = log_std_BA.exp() * noise_BA
    u = loc_BA + moved
    gaussian = -0.5 * noise_BA.square() - log_std_BA  # and constants, for all dimensions at the end
    minus_log_slope = 2 * (u + functional.softplus(-2 * u))
    constants = u.shape[1] * (0.5 * math.log(2 * math.pi) + 2 * math.log(2))
    return Sample(u.tanh(), (gaussian + minus_log_slope).sum(dim=1) - constants, moved)


def bounded(log_std_BA: torch.Tensor) -> torch.Tensor:
    return log_std_BA.clamp(LOG_STD_MIN, LOG_STD_MAX)


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
        loc_BA, log_std_BA = self.network.act(observation_BD).chunk(2, dim=1)
        noise_BA = networks.gaussian_like(loc_BA, generator)
        return torch.addcmul(loc_BA, bounded(log_std_BA).exp(), noise_BA).tanh()

    @torch.no_grad()
    def sample(self, observation_BD: torch.Tensor, generator: torch.Generator) -> Sample:
        """Draw an action for each observation."""
        loc_BA, log_std_BA = self.network(observation_BD).chunk(2, dim=1)
        return squash(loc_BA, bounded(log_std_BA), networks.gaussian_like(loc_BA, generator))

    def update(
        self, batch: Batch, generator: torch.Generator, *, hold_actor: bool = False
    ) -> Mapping[str, torch.Tensor]:
        alpha = self.log_alpha.detach().exp()
        values = {"critic_loss": self._update_critics(batch, alpha, generator)}
        if not hold_actor:
            actor_loss, log_prob_B = self._update_actor(batch.observation, alpha, generator)
            self._update_temperature(log_prob_B)
            values |= {"actor_loss": actor_loss, "temperature": alpha, "entropy": -log_prob_B.mean()}
        networks.polyak(self.targets, self.critics, self.options.tau)
        return values

    @torch.no_grad()
    def bellman_target(self, batch: Batch, alpha: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Soft Bellman target (B,): SAC eq. 3, with the lower one of two critics."""
        action, log_prob, _ = self.sample(batch.next_observation, generator)
        value = self.targets(batch.next_observation, action).amin(dim=0) - alpha * log_prob
        target: torch.Tensor = batch.reward + self.options.gamma * batch.not_terminated * value
        return target

    def _update_critics(self, batch: Batch, alpha: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """SAC eq. 5."""
        target_B = self.bellman_target(batch, alpha, generator)
        return self.critics.regress(batch.observation, batch.action, target_B, self.optimizers["critics"])

    @torch.no_grad()
    def _update_actor(
        self, observation_BD: torch.Tensor, alpha: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One step down the mean of alpha log_prob - value, SAC eq. 9; its gradient is eq. 10."""
        loc_BA, log_std_BA = self.network.learn(observation_BD).chunk(2, dim=1)
        noise_BA = networks.gaussian_like(loc_BA, generator)
        action, log_prob, moved = squash(loc_BA, bounded(log_std_BA), noise_BA)
        value_B, slope_BA = self.critics.slope(observation_BD, action)
        # Before tanh: the log-density changes by 2 tanh(u), the action by 1 - tanh²(u).
        of_u_BA = 2 * alpha * action - slope_BA * (1 - action.square())
        # log_std moves u, and lowers the log-density by itself.
        within = bounded(log_std_BA) == log_std_BA
        of_log_std_BA = (of_u_BA * moved - alpha) * within
        gradient = torch.cat([of_u_BA, of_log_std_BA], dim=1) / len(value_B)
        self.network.descend(gradient, self.optimizers["actor"])
        return (alpha * log_prob - value_B).mean(), log_prob

    @torch.no_grad()
    def _update_temperature(self, log_prob_B: torch.Tensor) -> None:
        """One step down -log_alpha (log_prob + target entropy): SAC eq. 18.

        On log(alpha), which keeps alpha positive, as the authors' code does.
        """
        self.optimizers["temperature"].descend([-(log_prob_B.mean() + self.target_entropy)])


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
