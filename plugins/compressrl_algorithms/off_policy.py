"""What SAC, TD3 and DDPG share: interaction with the environment, replay, warm start, checkpoints.

An algorithm adds its `Learner`: the networks, the exploration and the update equations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import nn

from compressrl import environments
from compressrl.environments import Env
from compressrl.errors import TrainingDivergedError, UsageError
from compressrl.interfaces import Float32Array
from compressrl.lab import Lab
from compressrl.networks import layers
from compressrl.options import Option
from compressrl.policy import Policy
from compressrl.training import TrainingSession
from compressrl_algorithms import networks
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.elementwise import Scalar
from compressrl_algorithms.kernel import Numbers, fastest, why_none
from compressrl_algorithms.recording import Repeater
from compressrl_algorithms.replay_buffer import Batch, ReplayBuffer

LOG_EVERY_UPDATES = 1000


class Learner(nn.Module, ABC):
    """Networks and update equations of one off-policy algorithm.

    actor:      observation to the pre-tanh mean, a row of layers; it is what is deployed
    network:    the same with all its heads, as it is evaluated and learns
    optimizers: by name, for the checkpoint
    repeater:   carries out updates
    Everything else that must survive a checkpoint is a parameter or buffer of this module.
    """

    actor: nn.Sequential
    network: networks.Actor
    optimizers: dict[str, Adam]

    def __init__(self) -> None:
        super().__init__()
        self.repeater = Repeater()

    @abstractmethod
    def explore(self, observation_BD: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Actions (B, A) in (-1, 1) to try out."""

    @abstractmethod
    def update(
        self, batch: Batch, generator: torch.Generator, *, hold_actor: bool = False
    ) -> Mapping[str, Scalar]:
        """One gradient step on every network that is due; returns losses and the like, scalars.

        hold_actor: update the critics only
        """


@dataclass(frozen=True)
class Setup:
    """What a learner is built from."""

    actor: nn.Sequential
    observation_size: int
    action_size: int
    device: str
    warm: bool  # the actor comes from a trained policy
    generator: torch.Generator  # for initial weights, on the CPU


@dataclass(frozen=True)
class OffPolicyAlgorithm(ABC):
    """Options and training loop of the off-policy algorithms: one update for each environment step."""

    hidden: Annotated[str, Option(networks.HIDDEN_HELP)] = "256x256"
    observations: Annotated[str, Option(networks.OBSERVATIONS_HELP)] = "all"
    batch_size: Annotated[int, Option("transitions in one update", low=1)] = 256
    gamma: Annotated[float, Option("discount", low=0, high=1)] = 0.99
    tau: Annotated[float, Option("step of the targets towards the learnt networks", low=0, high=1)] = 0.005
    buffer_size: Annotated[int, Option("transitions that the replay memory keeps", low=1)] = 1_000_000
    learning_starts: Annotated[int, Option("steps of random actions before the first update", low=1)] = 10_000
    numbers: Annotated[
        Literal["fastest", "float32", "bfloat16", "int16"],
        Option("what is multiplied inside the networks; fastest: 16 bits on CPUs that are faster in them"),
    ] = "fastest"

    name: ClassVar[str]

    def multiplied_in(self) -> Numbers:
        """What networks multiply in, on a CPU; raises UsageError where this one cannot."""
        if self.numbers == "fastest":
            return fastest()
        reason = why_none(self.numbers) if self.numbers != "float32" else ""
        if reason:
            raise UsageError(
                f"numbers={self.numbers} cannot be had here. {reason} Leave it out for what is fastest."
            )
        return self.numbers

    def critics(self, setup: Setup, count: int) -> networks.Critics:
        """Fresh critics of observation and action."""
        sizes = [setup.observation_size + setup.action_size, *networks.hidden_widths(self.hidden)]
        return networks.Critics(sizes, count, setup.generator, numbers=self.multiplied_in())

    def actor(self, setup: Setup, *heads: nn.Linear) -> networks.Actor:
        """The actor with its last layer and further heads; `setup.actor` goes on learning inside it."""
        hidden, last = setup.actor[:-1], cast(nn.Linear, setup.actor[-1])
        assert isinstance(hidden, nn.Sequential)
        return networks.Actor(hidden, [last, *heads], numbers=self.multiplied_in(), device=setup.device)

    @abstractmethod
    def learner(self, setup: Setup) -> Learner:
        """The algorithm proper."""

    def train(self, lab: Lab) -> Policy:
        """Train for `lab.training.steps` environment steps; see `compressrl.interfaces.Algorithm`."""
        env = lab.make_env()
        try:
            return _Run(self, lab, env).train()
        finally:
            env.close()


class _Explorer:
    """Tries actions out, one at a time in the same memory, so that it can be repeated."""

    def __init__(
        self, learner: Learner, observation_size: int, device: str, generator: torch.Generator
    ) -> None:
        self.learner, self.generator, self.repeater = learner, generator, Repeater()
        self.observation_1D = torch.empty(1, observation_size, device=device)
        self.row = self.observation_1D.numpy()[0] if self.observation_1D.is_cpu else None  # the same memory
        self.latest_1A = torch.empty(0)
        self.action: Float32Array = np.empty(0, np.float32)  # what it holds

    def act(self, observation: Float32Array) -> Float32Array:
        """The action (A,), which stands there until the next one."""
        if self.learner.network.stack is None:
            # Eval mode: the ranges that a fake quantizer tracks come from batches, not from single states.
            self.learner.eval()
        if self.row is None:
            self.observation_1D.copy_(torch.from_numpy(observation))
        else:
            self.row[:] = observation
        action_1A = self.repeater(self._explore, self.observation_1D, self.generator)["action"]
        if action_1A is not self.latest_1A:
            self.latest_1A, self.action = action_1A, action_1A[0].cpu().numpy()
        return self.action

    def _explore(self, observation_1D: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"action": self.learner.explore(observation_1D, generator)}


class _Run:
    """One training run: environment, learner, replay memory and counters."""

    def __init__(self, algorithm: OffPolicyAlgorithm, lab: Lab, env: Env) -> None:
        self.algorithm, self.lab, self.session, self.env = algorithm, lab, lab.training, env
        self.template = untrained(algorithm.name, lab, env)
        self.rescale = networks.action_rescale(*environments.action_bounds(env))
        self.to_units = layers.Rescale(self.rescale.scale.numpy(), self.rescale.offset.numpy())
        weights = torch.Generator().manual_seed(lab.seed)
        mask_D = networks.observation_mask(algorithm.observations, self.template.observation_size)
        hidden = networks.hidden_widths(algorithm.hidden)
        actor, mask_D = build_actor(self.template, self.session, hidden, mask_D, weights)
        self.mask_D: Float32Array = mask_D.float().numpy()
        warm = self.session.start is not None
        self._refuse_too_few_steps(warm)
        sizes = self.template.observation_size, self.template.action_size
        setup = Setup(actor, *sizes, self.session.device, warm, weights)
        self.learner = algorithm.learner(setup).to(self.session.device)
        self.generator = torch.Generator(self.session.device).manual_seed(lab.seed)
        capacity = min(algorithm.buffer_size, self.session.steps)
        self.replay = ReplayBuffer(capacity, *sizes, self.session.device)
        self.explorer = _Explorer(self.learner, sizes[0], self.session.device, self.generator)
        self.step = self.updates = 0
        self.random_steps = self.learning_starts = algorithm.learning_starts
        self.actor_starts = 0
        if warm:
            # A good actor must not be led astray by critics that know nothing yet: it collects the first
            # experience itself, then the critics learn alone for as long.
            self.random_steps = 0
            self.learning_starts = min(algorithm.learning_starts, self.session.steps // 10)
            self.actor_starts = 2 * self.learning_starts

    def _refuse_too_few_steps(self, warm: bool) -> None:
        steps, first = self.session.steps, self.algorithm.learning_starts
        if not warm and 0 < steps <= first:
            name = self.algorithm.name
            raise UsageError(
                f"{name} learns from step {first + 1:,} on: {steps:,} steps would train nothing. "
                f"Ask for more, or for an earlier start: {name}:learning_starts=100"
            )

    def train(self) -> Policy:
        """Act, remember, update, report; a run that is interrupted is saved first."""
        resumed = self._resume()
        with self.session.stoppable(lambda: self.session.save(self.step, self.policy, self.state)):
            if resumed:
                self._boundary()
            self._loop()
        return self.policy()

    def _resume(self) -> bool:
        # Here alone, so that the replay memory is not held twice from then on.
        saved = self.session.resume()
        if saved is not None:
            self._restore(saved)
        return saved is not None

    def _boundary(self) -> None:
        self.session.boundary(self.step, self.policy, self.state, has_learnt=self.updates > 0)

    def _loop(self) -> None:
        observation, episode_return, length = self._reset(), 0.0, 0
        while self.step < self.session.steps:
            action = self._act(observation)
            successor, reward, terminated, truncated, _ = self.env.step(self.to_units(action))
            successor = successor * self.mask_D
            # A time limit ends the episode, not the task: only `terminated` stops the bootstrap.
            self.replay.add(observation, action, float(reward), terminated, successor)
            observation = successor
            self.step, length, episode_return = self.step + 1, length + 1, episode_return + float(reward)
            if terminated or truncated:
                self.session.episode(self.step, episode_return, length)
                observation, episode_return, length = self._reset(), 0.0, 0
            if self.step > self.learning_starts:
                self._update()
            self._boundary()

    def _reset(self) -> Float32Array:
        # A seed of its own for each episode, so that a resumed run needs no state of the environment.
        seed = np.random.SeedSequence([self.lab.seed, self.step]).generate_state(1)[0] >> 1
        observation, _ = self.env.reset(seed=int(seed))
        masked: Float32Array = observation * self.mask_D
        return masked

    def _act(self, observation: Float32Array) -> Float32Array:
        """The action to try out, (A,) in (-1, 1), which stands there until the next one."""
        if self.step < self.random_steps:
            size, device = self.template.action_size, self.session.device
            return (torch.rand(size, generator=self.generator, device=device) * 2 - 1).cpu().numpy()
        action = self.explorer.act(observation)
        # Or the environment would be blamed for what it makes of it.
        if not math.isfinite(action.sum()):
            environments.refuse_infinite(self.lab.env_id, self.step, observation)
            raise self.session.diverged(self.step, "the action")
        return action

    def _update(self) -> None:
        if self.learner.network.stack is None:
            self.learner.train()
        batch = self.replay.sample(self.algorithm.batch_size, self.generator)
        hold_actor = self.step <= self.actor_starts
        values = self.learner.update(batch, self.generator, hold_actor=hold_actor)
        self.updates += 1
        # The kernel gives numbers; those of torch may be on a GPU that is still at work, and wait.
        diverged = any(isinstance(value, float) and not math.isfinite(value) for value in values.values())
        if diverged or self.updates % LOG_EVERY_UPDATES == 0:
            try:
                self.session.scalars(self.step, {f"train/{name}": float(v) for name, v in values.items()})
            except TrainingDivergedError:
                environments.refuse_infinite(self.lab.env_id, self.step, self.replay.filled())
                raise

    def policy(self) -> Policy:
        """The deterministic policy as it stands."""
        origin = "trained further" if self.session.start else "trained"
        stack = self.learner.network.stack
        numbers = "float32" if stack is None else stack.numbers
        step = f"{self.algorithm.name}: {origin} for {self.step} steps, seed {self.lab.seed}, in {numbers}"
        return self.template.with_network(networks.squashed(self.learner.actor, self.rescale), step)

    def state(self) -> dict[str, Any]:
        """Everything but the episode under way: a resumed run begins a new one."""
        return {
            "step": self.step,
            "updates": self.updates,
            "networks": self.learner.state_dict(),
            "optimizers": {name: each.state_dict() for name, each in self.learner.optimizers.items()},
            "generator": self.generator.get_state(),
            "replay": self.replay.state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.updates = state["step"], state["updates"]
        self.learner.load_state_dict(state["networks"])
        for name, optimizer in self.learner.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.generator.set_state(state["generator"].cpu())
        self.replay.restore(state["replay"])


def untrained(name: str, lab: Lab, env: Env) -> Policy:
    """A policy without a network: what `with_network` completes; it continues the provenance of the start."""
    (low, high), start = environments.action_bounds(env), lab.training.start
    return Policy(
        env_id=lab.env_id,
        algorithm=name,
        observation_size=int(np.prod(env.observation_space.shape or ())),
        action_low=low,
        action_high=high,
        provenance=start.provenance if start else (),
    )


def build_actor(
    template: Policy,
    session: TrainingSession,
    hidden: Sequence[int],
    mask_D: torch.Tensor,
    generator: torch.Generator,
) -> tuple[nn.Sequential, torch.Tensor]:
    """The network from observation to pre-tanh mean: fresh, or the start policy's own; then adapted.

    Returns it and the mask less what a start policy ignores already.
    """
    if session.start is None:
        sizes = [template.observation_size, *hidden, template.action_size]
        actor = networks.mlp(sizes, generator)
    else:
        actor = nn.Sequential(*networks.start_layers(session.start))
    mask_D = networks.ignore(actor, mask_D)
    return cast(nn.Sequential, session.adapt_actor(actor)), mask_D
