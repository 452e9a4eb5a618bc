"""What the on-policy algorithms share: actor and critic, the rollout loop, normalisation, resuming.

An algorithm (ppo.py, trpo.py) adds how its policy learns from a batch. Shapes: T steps, N environments,
B = T·N, D observation, A action.
"""

from __future__ import annotations

import copy
import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
from torch import nn

from compressrl import environments
from compressrl.errors import UsageError
from compressrl.interfaces import PolicyFunction
from compressrl.lab import Lab
from compressrl.networks import layers, modules
from compressrl.networks.modules import IGNORED_STD, Clip, Standardize
from compressrl.options import Option
from compressrl.policy import Policy
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.elementwise import LOG_SQRT_2PI, Scalar
from compressrl_algorithms.minibatches import Minibatches
from compressrl_algorithms.mlp_stack import MLPStack
from compressrl_algorithms.networks import (
    HIDDEN_HELP,
    OBSERVATIONS_HELP,
    Actor,
    hidden_widths,
    ignore,
    mlp,
    observation_mask,
    stacked,
    start_row,
)
from compressrl_algorithms.normalization import CLIP, RewardScaler, RunningMoments
from compressrl_algorithms.recording import Repeater
from compressrl_algorithms.rollout_buffer import Batch, Rollout, generalized_advantages
from compressrl_algorithms.rollout_workers import Workers

FARTHEST = 50  # first standard deviations from the middle of the action box to its edge
ADAM_EPSILON = 1e-5  # as in the authors' code; torch's default is 1e-8


def orthogonal(network: nn.Sequential, output_gain: float, generator: torch.Generator) -> nn.Sequential:
    """Orthogonal weights, gain √2 in hidden layers, and zero biases (Andrychowicz et al. 2021, §3.2)."""
    linears = [module for module in network if isinstance(module, nn.Linear)]
    for layer in linears:
        gain = output_gain if layer is linears[-1] else math.sqrt(2)
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        nn.init.zeros_(layer.bias)
    return network


class ActorCritic(nn.Module):
    """Gaussian policy with state-independent log std, and value function, of standardised observations.

    value: its one network has one output
    """

    def __init__(self, mean: nn.Module, log_std_A: torch.Tensor, value: MLPStack) -> None:
        super().__init__()
        self.mean = mean
        self.log_std = nn.Parameter(log_std_A)
        self.value = value

    def actor(self) -> Actor:
        """The mean, to be learnt by its gradient; `mean` follows."""
        row = list(self.mean) if isinstance(self.mean, nn.Sequential) else [self.mean]
        return Actor(nn.Sequential(*row[:-1]), row[-1:], device=self.log_std.device.type)

    def log_prob(self, observations_BD: torch.Tensor, actions_BA: torch.Tensor) -> torch.Tensor:
        """Log-density (B,) of the actions, as sampled."""
        z_BA: torch.Tensor = (actions_BA - self.mean(observations_BD)) * torch.exp(-self.log_std)
        return -0.5 * z_BA.square().sum(1) - self.log_std.sum() - LOG_SQRT_2PI * actions_BA.shape[1]

    def values(self, observations_BD: torch.Tensor) -> torch.Tensor:
        """State values (B,), in units of the scaled reward, as constants."""
        values: torch.Tensor = self.value(observations_BD)[0, :, 0]
        return values


class PolicyLearner(ABC):
    """How one algorithm improves the policy of an ActorCritic."""

    @abstractmethod
    def improve(self, batch: Batch, remaining: float, rng: np.random.Generator) -> dict[str, float]:
        """Learn from one rollout; `remaining` is the share of the run still to come, in (0, 1].

        Returns the scalars to log.
        """

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        return {}

    def load(self, state: dict[str, Any]) -> None:  # noqa: B027 (nothing to load, as there is no state)
        """Continue from this state."""


@dataclass(frozen=True, kw_only=True)
class OnPolicy(ABC):
    """Options and training of every on-policy algorithm; `name` and `learner` are its own."""

    num_envs: Annotated[int, Option("environments, shared out over --threads processes", low=1)] = 1
    n_steps: Annotated[int, Option("steps of one rollout, all environments together", low=2)] = 1024
    gamma: Annotated[float, Option("discount factor", low=0, high=1)] = 0.99
    gae_lambda: Annotated[float, Option("lambda of generalised advantage estimation", low=0, high=1)] = 0.95
    hidden: Annotated[str, Option(HIDDEN_HELP)] = "64x64"
    observations: Annotated[str, Option(OBSERVATIONS_HELP)] = "all"
    value_learning_rate: Annotated[float, Option("Adam's step size for the value function", low=0)] = 1e-3
    value_epochs: Annotated[int, Option("passes of the value function over a rollout", low=1)] = 10
    value_batch_size: Annotated[int, Option("minibatch of the value function", low=2)] = 128
    log_std: Annotated[float, Option("log std of the first exploration noise", low=-5, high=1)] = -1.0
    warm_log_std: Annotated[float, Option("the same after a warm start", low=-5, high=1)] = -1.5
    warm_up: Annotated[int, Option("rollouts after a warm start that only the critic learns from", low=0)] = 4

    name: ClassVar[str]

    @abstractmethod
    def learner(self, agent: ActorCritic) -> PolicyLearner: ...

    def train(self, lab: Lab) -> Policy:
        """Train for `lab.training.steps` environment steps, resuming where the session holds a checkpoint."""
        return Training(self, lab).run()


class Training:
    """One run: agent, normalisers, environments and counters."""

    def __init__(self, options: OnPolicy, lab: Lab) -> None:
        self.options, self.lab, self.session = options, lab, lab.training
        self.step = self.rollouts = 0
        self.rng = np.random.default_rng(lab.seed)
        env = lab.make_env()
        self.low_A, self.high_A = environments.action_bounds(env)
        self.D: int = env.observation_space.shape[0]  # type: ignore[index]
        env.close()
        self.observation_moments = RunningMoments((self.D,))
        self.reward_scaler = RewardScaler(options.num_envs, options.gamma)
        self._build(torch.Generator().manual_seed(lab.seed))

    def _build(self, generator: torch.Generator) -> None:
        options, A, hidden = self.options, len(self.low_A), hidden_widths(self.options.hidden)
        self.inputs = nn.Sequential()
        if self.session.start is None:
            # A small last layer: the first actions hardly depend on the observation.
            mean = orthogonal(mlp([self.D, *hidden, A], generator, nn.Tanh), 0.01, generator)
            self._refuse_other_units()
            cast(nn.Linear, mean[-1]).bias.data += torch.from_numpy(self.high_A + self.low_A) / 2
            log_std = torch.full((A,), options.log_std)
        else:
            self.inputs, mean = start_parts(self.session.start)
            log_std = torch.full((A,), options.warm_log_std)
        self.mask_D = ignore(mean, observation_mask(options.observations, self.D))
        for standardization in self.inputs:
            leave_out(cast(Standardize, standardization), self.mask_D)
        *below, last = orthogonal(mlp([self.D, *hidden, 1], generator, nn.Tanh), 1.0, generator)
        value = stacked(nn.Sequential(*below), [last])
        assert value is not None
        self.inputs.to(self.session.device)
        self.agent = ActorCritic(self.session.adapt_actor(mean), log_std, value).to(self.session.device)
        self.learner = options.learner(self.agent)
        self.critic = ValueLearner(self.agent, options)

    def _refuse_other_units(self) -> None:
        """Actions are explored in the environment's units, where a network finds numbers of order 1 only."""
        widths = (self.high_A - self.low_A) / (2 * math.exp(self.options.log_std))
        widths = widths[widths > 0]  # a locked joint has nothing to explore
        if not ((widths > 1 / FARTHEST) & (widths < FARTHEST)).all():
            std, low, high = math.exp(self.options.log_std), self.low_A.min(), self.high_A.max()
            raise UsageError(
                f"{self.options.name} explores with a standard deviation of {std:.2g} at first, too far from "
                f"actions between {low:g} and {high:g}. Register the environment wrapped in "
                "gymnasium.wrappers.RescaleAction to -1 and 1, or take sac."
            )

    def run(self) -> Policy:
        saved = self.session.resume()
        if saved is not None:
            self.load(saved)
        # Seeds come from the run's own generator, so that a resumed run meets new episodes.
        seeds = self.rng.integers(2**31, size=self.options.num_envs).tolist()
        workers = Workers(self.lab, seeds, self.mask_D.float().numpy(), self._processes())
        self._mark()
        try:
            with self.session.stoppable(self._save):
                if saved is not None:
                    self.session.boundary(self.step, self.policy, self.state)
                while self.step < self.session.steps:
                    self._learn(self._collect(workers))
                    self._mark()
                    self.session.boundary(self.step, self.policy, self.state)
        finally:
            workers.close()
        return self.policy()

    def _save(self) -> None:
        self.load(self._consistent)  # an update may have been cut in the middle
        self.session.save(self.step, self.policy, self.state)

    def _mark(self) -> None:
        """Remember this point between two rollouts as one that a run can go on from."""
        self._consistent = copy.deepcopy(self.state())

    def _collect(self, workers: Workers) -> Rollout:
        rollout = Rollout.empty(self._rollout_length(), self.options.num_envs, self.D, len(self.low_A))
        std = np.exp(self.agent.log_std.detach().cpu().numpy())
        noise = std * self.rng.standard_normal(rollout.actions.shape, np.float32)
        for ended in workers.collect(rollout, self._mean_action(), noise):
            self.session.episode(self.step + ended.step, ended.episode_return, ended.length)
        by = self.step + rollout.rewards.size
        environments.refuse_infinite(self.lab.env_id, by, rollout.rewards, rollout.next_observations)
        return rollout

    def _rollout_length(self) -> int:
        """Steps in each environment; the last rollout takes what is left instead of leaving a tiny one."""
        N, remaining = self.options.num_envs, self.session.steps - self.step
        total = self.options.n_steps if remaining >= 2 * self.options.n_steps else remaining
        return -(-total // N)

    def _processes(self) -> int:
        """That step environments: as many as torch has threads, where others can be given the policy."""
        return 1 if modules.from_module(self._network()) is None else torch.get_num_threads()

    def _network(self) -> nn.Sequential:
        # Eval mode: the ranges that a fake quantizer tracks come from batches, not from single states.
        return nn.Sequential(*self.inputs, self.agent.mean).eval()

    def _mean_action(self) -> PolicyFunction:
        """Numpy where the network is of known layers: three times faster than torch on a few rows."""
        network = self._network()
        row = modules.from_module(network)
        if row is not None:
            return functools.partial(layers.forward, row)

        @torch.no_grad()
        def forward(observations: Any) -> Any:
            return network(torch.from_numpy(observations).to(self.session.device)).cpu().numpy()

        return forward

    def _learn(self, rollout: Rollout) -> None:
        """Everything here sees the observations through the normaliser that acted."""
        options, batch = self.options, self._batch(rollout)
        remaining = 1 - self.step / self.session.steps
        scalars: dict[str, float] = {}
        self.agent.train()
        if self.session.start is None or self.rollouts >= options.warm_up:
            scalars |= self.learner.improve(batch, remaining, self.rng)
        scalars |= self.critic.fit(batch, self.rng)
        self.step += len(batch.returns)
        self.rollouts += 1
        self.session.scalars(self.step, scalars | {"train/std": self.agent.log_std.exp().mean().item()})
        # Or the environment would be blamed for what it makes of such actions.
        if not all(parameter.isfinite().all() for parameter in self.agent.mean.parameters()):
            raise self.session.diverged(self.step, "the policy")
        if self.session.start is None:
            self.observation_moments.update(rollout.observations.reshape(-1, self.D))
            self.inputs = self._standardize()

    @torch.no_grad()
    def _batch(self, rollout: Rollout) -> Batch:
        options = self.options
        self.reward_scaler.update(rollout.rewards, rollout.terminated | rollout.truncated)
        observations = self._inputs(rollout.observations)
        next_observations = self._inputs(rollout.next_observations)
        shape = rollout.rewards.shape
        values = self.agent.values(observations).cpu().numpy().reshape(shape)
        advantages = generalized_advantages(
            self.reward_scaler(rollout.rewards),
            values,
            self.agent.values(next_observations).cpu().numpy().reshape(shape),
            rollout.terminated,
            rollout.truncated,
            options.gamma,
            options.gae_lambda,
        )
        actions = self._tensor(rollout.actions.reshape(-1, len(self.low_A)))
        return Batch(
            observations,
            actions,
            self.agent.log_prob(observations, actions),
            self._tensor(advantages.ravel()),
            self._tensor((advantages + values).ravel()),
        )

    def _inputs(self, observations_TND: Any) -> torch.Tensor:
        observations_BD = self._tensor(observations_TND.reshape(-1, self.D))
        standardized: torch.Tensor = self.inputs(observations_BD)
        return standardized

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(self.session.device)

    def _standardize(self) -> nn.Sequential:
        mean, std = self.observation_moments.mean, self.observation_moments.std
        standardization = Standardize(self._tensor(mean).float(), self._tensor(std).float(), CLIP)
        leave_out(standardization, self.mask_D)
        return nn.Sequential(standardization)

    def policy(self) -> Policy:
        """The deployed form: standardisation, mean network, clip to the action space; a copy on the CPU."""
        name, start, mean = self.options.name, self.session.start, self.agent.mean
        low, high = self.low_A, self.high_A
        row = mean if isinstance(mean, nn.Sequential) else [mean]
        network = nn.Sequential(*self.inputs, *row, Clip(torch.from_numpy(low), torch.from_numpy(high)))
        provenance = start.provenance if start else ()
        untrained = Policy(self.lab.env_id, name, self.D, low, high, provenance)
        step = f"{name}: trained{' further' if start else ''} for {self.step} steps, seed {self.lab.seed}"
        return untrained.with_network(network, step)

    def state(self) -> dict[str, Any]:
        """What `load` takes: tensors, numbers, strings, and dicts and lists of them."""
        return {
            "step": self.step,
            "rollouts": self.rollouts,
            "agent": self.agent.state_dict(),
            "learner": self.learner.state(),
            "critic": self.critic.optimizer.state_dict(),
            "observations": self.observation_moments.state(),
            "rewards": self.reward_scaler.moments.state(),
            "rng": self.rng.bit_generator.state,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.step, self.rollouts = state["step"], state["rollouts"]
        self.agent.load_state_dict(state["agent"])
        self.learner.load(state["learner"])
        self.critic.optimizer.load_state_dict(state["critic"])
        self.observation_moments.load(state["observations"])
        self.reward_scaler.moments.load(state["rewards"])
        self.rng.bit_generator.state = state["rng"]
        if self.observation_moments.count:
            self.inputs = self._standardize()


class ValueLearner:
    """Fits the value function to the returns of a rollout by minibatches of half the squared error."""

    def __init__(self, agent: ActorCritic, options: OnPolicy) -> None:
        self.value, self.options = agent.value, options
        self.optimizer = Adam([self.value.vector], options.value_learning_rate, eps=ADAM_EPSILON)
        self.minibatches, self.repeater = Minibatches(), Repeater()

    def fit(self, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        pairs, size = (batch.observations, batch.returns), self.options.value_batch_size
        for _ in range(self.options.value_epochs):
            for part in self.minibatches.draw(pairs, size, rng):
                loss = self.repeater(self._regress, *part)["loss"]
        return {"train/value_loss": float(loss)}

    def _regress(self, observations_BD: torch.Tensor, returns_B: torch.Tensor) -> dict[str, Scalar]:
        return {"loss": self.value.regress(returns_B, observations_BD, optimizer=self.optimizer)}


def leave_out(standardization: Standardize, mask_D: torch.Tensor) -> None:
    """Make it give zero for what `mask_D` leaves out, in place."""
    standardization.mean[~mask_D] = 0.0
    standardization.std[~mask_D] = IGNORED_STD


def start_parts(start: Policy) -> tuple[nn.Sequential, nn.Sequential]:
    """Split a policy into its fixed input layers (standardisation) and its mean network.

    The actor keeps the standardisation that its weights were learnt with.
    """
    row = start_row(start)
    while isinstance(row[-1], Clip):
        row.pop()
    first = next(i for i, layer in enumerate(row) if not isinstance(layer, Standardize))
    return nn.Sequential(*row[:first]), nn.Sequential(*row[first:])
