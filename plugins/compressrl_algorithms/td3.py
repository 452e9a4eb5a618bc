"""Twin Delayed DDPG (Fujimoto et al. 2018, arXiv 1802.09477, "TD3" below).

DDPG with three remedies against overestimated values: the lower one of two critics (TD3 §4.2), an actor and
targets that move with every second update only (§5.2), and noise on the target's action (§5.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from compressrl.options import Option
from compressrl_algorithms import elementwise, networks
from compressrl_algorithms.ddpg import DDPG, DDPGLearner
from compressrl_algorithms.elementwise import Scalar
from compressrl_algorithms.off_policy import Setup
from compressrl_algorithms.replay_buffer import Batch


@dataclass(frozen=True)
class TD3(DDPG):
    """Twin Delayed Deep Deterministic Policy Gradient.

    The learning rates are those of the authors' code for these widths and batches, not the paper's 1e-3.
    """

    actor_lr: Annotated[float, Option("Adam's step for the actor", low=0)] = 3e-4
    critic_lr: Annotated[float, Option("Adam's step for the critics", low=0)] = 3e-4
    policy_delay: Annotated[int, Option("updates of the critics for one of actor and targets", low=1)] = 2
    target_noise: Annotated[float, Option("std of the noise on the target's action", low=0)] = 0.2
    target_noise_clip: Annotated[float, Option("largest noise on the target's action", low=0)] = 0.5

    name: ClassVar[str] = "td3"
    critic_count: ClassVar[int] = 2

    def learner(self, setup: Setup) -> TD3Learner:
        return TD3Learner(self, setup)


class TD3Learner(DDPGLearner):
    """Networks and updates of TD3: what it changes in DDPG.

    The lower one of the critics is taken in `bellman_target`, which for DDPG sees one only.
    """

    updates: int = 0  # that there were

    def __init__(self, options: TD3, setup: Setup) -> None:
        super().__init__(options, setup)
        self.td3 = options

    def get_extra_state(self) -> int:
        return self.updates

    def set_extra_state(self, state: int) -> None:
        self.updates = state

    def target_action(self, observation_BD: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Target policy smoothing: the target actor's action (B, A) plus clipped noise, TD3 eq. 14."""
        heads_BA = self.target_actor(observation_BD)
        noise_BA = networks.gaussian_like(heads_BA, generator)
        return elementwise.noisy_tanh(heads_BA, noise_BA, self.td3.target_noise, self.td3.target_noise_clip)

    def update(
        self, batch: Batch, generator: torch.Generator, *, hold_actor: bool = False
    ) -> Mapping[str, Scalar]:
        self.updates += 1
        delayed = self.updates % self.td3.policy_delay == 0
        return self.repeater(self.carry_out, batch, generator, hold_actor=hold_actor, delayed=delayed)
