"""A complete algorithm in a screenful: for tests that train in a second, and to copy from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
import torch
from torch import nn

from compressrl import environments
from compressrl.errors import PipelineError
from compressrl.interfaces import Float32Array
from compressrl.lab import Lab
from compressrl.networks.modules import Rescale
from compressrl.options import Option
from compressrl.policy import Policy
from compressrl.training import TrainingSession


@dataclass(frozen=True)
class RandomSearch:
    """Basic random search (Mania et al. 2018, arXiv 1803.07055, algorithm 1) with one direction an update.

    Perturbs all weights in a random direction and its opposite, pays both the same episode, and steps
    towards the better one in proportion to the difference.
    """

    hidden: Annotated[int, Option("width of the hidden layer", low=1)] = 16
    noise: Annotated[float, Option("standard deviation of a perturbation", low=0)] = 0.3
    step_size: Annotated[float, Option("step along the direction, for each unit of return", low=0)] = 0.02

    def train(self, lab: Lab) -> Policy:
        """Train for exactly `lab.training.steps` environment steps, resuming where there is a checkpoint."""
        run = _Run(self, lab)
        with contextlib.closing(run.env):
            run.train()
        return run.policy()


class _Run:
    """One run: network, its weights in one vector, environment."""

    def __init__(self, options: RandomSearch, lab: Lab) -> None:
        self.options, self.lab, self.step = options, lab, 0
        self.rng = np.random.default_rng(lab.seed)
        self.env = lab.make_env()
        self.low, self.high = map(torch.from_numpy, environments.action_bounds(self.env))
        self.observation_size = (self.env.observation_space.shape or (0,))[0]
        body = lab.training.adapt_actor(self._body())
        ending = nn.Tanh(), Rescale((self.high - self.low) / 2, (self.high + self.low) / 2)
        self.network = nn.Sequential(*body.children(), *ending).eval()
        self.weights = nn.utils.parameters_to_vector(self.network.parameters()).detach()

    def _body(self) -> nn.Sequential:
        """Observation to pre-tanh output: fresh, or that of the policy to start from."""
        start = self.lab.training.start
        if start is None:
            widths = self.observation_size, self.options.hidden, len(self.low)
            return nn.Sequential(self._linear(*widths[:2]), nn.ReLU(), self._linear(*widths[1:]))
        network = start.network
        if not (isinstance(network, nn.Sequential) and isinstance(network[-2], nn.Tanh)):
            raise PipelineError("Random search starts from layers in a row that end in tanh and scaling.")
        return cast(nn.Sequential, network[:-2])

    def _linear(self, inputs: int, outputs: int) -> nn.Linear:
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.rng.normal(0, inputs**-0.5, (outputs, inputs))))
            layer.bias.zero_()
        return layer

    def train(self) -> None:
        session = self.lab.training
        saved = session.resume()
        if saved is not None:
            self.step, self.weights = saved["step"], saved["weights"]
            self.rng.bit_generator.state = saved["rng"]
        with session.stoppable(lambda: session.save(self.step, self.policy, self.state)):
            if saved is not None:
                session.boundary(self.step, self.policy, self.state)
            self._improve(session)

    def _improve(self, session: TrainingSession) -> None:
        while self.step < session.steps:
            direction = torch.from_numpy(self.rng.normal(0, 1, len(self.weights))).float()
            seed = int(self.rng.integers(2**31))
            offset = self.options.noise * direction
            gain = self._episode(self.weights + offset, seed) - self._episode(self.weights - offset, seed)
            self.weights = self.weights + self.options.step_size * gain * direction
            session.boundary(self.step, self.policy, self.state)

    def _episode(self, weights: torch.Tensor, seed: int) -> float:
        """Return of one episode, cut short where the run's steps are spent."""
        nn.utils.vector_to_parameters(weights, self.network.parameters())
        observation, _ = self.env.reset(seed=seed)
        total, length, over = 0.0, 0, False
        while not over and self.step < self.lab.training.steps:
            observation, reward, terminated, truncated, _ = self.env.step(self._act(observation))
            total, length, over = total + float(reward), length + 1, terminated or truncated
            self.step += 1
        self.lab.training.episode(self.step, total, length)
        return total

    @torch.no_grad()
    def _act(self, observation: Float32Array) -> Float32Array:
        action: Float32Array = self.network(torch.from_numpy(observation)).numpy()
        return action

    def policy(self) -> Policy:
        nn.utils.vector_to_parameters(self.weights, self.network.parameters())
        low, high = self.low.numpy(), self.high.numpy()
        fresh = Policy(self.lab.env_id, "random-search", self.observation_size, low, high, ())
        step = f"random search: {self.step} environment steps, seed {self.lab.seed}"
        return (self.lab.training.start or fresh).with_network(self.network, step)

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "weights": self.weights, "rng": self.rng.bit_generator.state}
