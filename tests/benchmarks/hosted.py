"""Stable-Baselines3's SAC with our updates: its loop, replay memory, exploration and first weights."""

from __future__ import annotations

import stable_baselines3
import torch
from torch import nn

from compressrl_algorithms import networks
from compressrl_algorithms.off_policy import Setup
from compressrl_algorithms.replay_buffer import Batch
from compressrl_algorithms.sac import SAC


class HostedSAC(stable_baselines3.SAC):
    """`host` once, then `learn`."""

    def host(self, seed: int) -> None:
        """Take over the weights as they are; the updates' noise is of this seed."""
        generator = torch.Generator().manual_seed(seed)
        inputs, actions = self.observation_space.shape[0], self.action_space.shape[0]
        actor = networks.mlp([inputs, 256, 256, actions], generator)
        self.learner = SAC().learner(Setup(actor, inputs, actions, "cpu", False, generator))
        theirs = self.actor
        hidden = [[layer] for layer in theirs.latent_pi if isinstance(layer, nn.Linear)]
        self.learner.network.stack.adopt(0, [*hidden, [theirs.mu, theirs.log_std]])
        with torch.no_grad():
            for n, critic in enumerate(self.critic.q_networks):
                layers = [layer for layer in critic if isinstance(layer, nn.Linear)]
                for (weight, bias), layer in zip(self.learner.critics.stack.layers(), layers, strict=True):
                    weight[n], bias[n, 0] = layer.weight, layer.bias
        self.learner.targets.load_state_dict(self.learner.critics.state_dict())
        self.generator = torch.Generator().manual_seed(seed)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        assert gradient_steps == 1
        drawn = self.replay_buffer.sample(batch_size)
        observation, successor = drawn.observations.float(), drawn.next_observations.float()
        reward, not_terminated = drawn.rewards[:, 0], 1 - drawn.dones[:, 0]
        self.learner.update(
            Batch(observation, drawn.actions, reward, not_terminated, successor), self.generator
        )
