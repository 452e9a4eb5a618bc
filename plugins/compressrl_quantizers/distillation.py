"""On-policy distillation: a student network learns to act as its teacher does, on the states that it visits.

DAgger (Ross, Gordon & Bagnell 2011, arXiv 1011.0686): roll out the student, label its states with the
teacher's actions, learn from everything gathered so far, and again. Returns swing between rounds, so every
round is checked on episode seeds of its own and the best student is kept.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from compressrl.interfaces import Float32Array
from compressrl.lab import Lab
from compressrl.options import Option
from compressrl.policy import Policy

PROGRESS_EVERY = 50  # updates
FINAL_RATE = 0.01  # of the learning rate, where its cosine ends


@dataclass(frozen=True, kw_only=True)
class DistillationOptions:
    """What a compressor that distils lets its user choose."""

    rounds: Annotated[int, Option("rounds of rolling out, labelling and learning", low=0)] = 6
    steps_per_round: Annotated[int, Option("Adam updates in a round", low=1)] = 1000
    batch_size: Annotated[int, Option("states of an update", low=1)] = 256
    learning_rate: Annotated[float, Option("Adam's step, falling to 1 % by a cosine", low=0)] = 1e-3
    states_per_round: Annotated[int, Option("environment steps that a round gathers", low=1)] = 2500
    check_episodes: Annotated[int, Option("episodes that compare the students of all rounds", low=1)] = 5


@dataclass(frozen=True)
class Distilled:
    """What a distillation did."""

    rounds: int
    updates: int
    kept_round: int  # 0: the student as it came
    check_return: float  # mean over the check episodes, of the student that is kept


@contextmanager
def one_thread() -> Iterator[None]:
    """The same seed then gives the same weights whatever the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def distill(
    student: nn.Sequential,
    as_policy: Callable[[], Policy],
    teacher: Policy,
    states: Float32Array,
    lab: Lab,
    options: DistillationOptions,
    task: str,
) -> Distilled:
    """Train the student in place, and leave it in eval mode with the weights of its best round.

    student:   (batch, observation_size) -> (batch, action_size) in environment units
    as_policy: the student as it would be deployed now; that is what is rolled out
    states:    (N, observation_size) to begin with, visited by the teacher
    task:      name of the work for the progress display
    Stops early, between two updates, where `lab.budget` is used up.
    """
    return _Run(student, as_policy, teacher, states, lab, options, task).run()


class _Run:
    def __init__(
        self,
        student: nn.Sequential,
        as_policy: Callable[[], Policy],
        teacher: Policy,
        states: Float32Array,
        lab: Lab,
        options: DistillationOptions,
        task: str,
    ) -> None:
        self.student, self.as_policy, self.teacher = student, as_policy, teacher
        self.lab, self.options, self.task = lab, options, task
        last = max(i for i, layer in enumerate(student) if isinstance(layer, nn.Linear))
        self.body, self.head = student[: last + 1], student[last + 1 :]
        self.half_range = torch.from_numpy((teacher.action_high - teacher.action_low) / 2)
        self.states, self.actions = torch.from_numpy(states), torch.from_numpy(teacher(states))
        self.check_seeds = [int(s) for s in lab.rng.integers(2**31, size=options.check_episodes)]
        self.generator = torch.Generator().manual_seed(int(lab.rng.integers(2**63)))
        self.optimizer = torch.optim.Adam(student.parameters(), options.learning_rate, fused=True)
        self.started, self.steps_before = time.monotonic(), lab.environment_steps_used
        self.updates = self.rounds = 0
        self.action_error = math.nan

    def run(self) -> Distilled:
        best = self._check()
        weights, kept = copy.deepcopy(self.student.state_dict()), 0
        while self.rounds < self.options.rounds and self._affordable():
            self.rounds += 1
            self._gather()
            self._learn(best)
            found = self._check()
            if found > best:
                best, kept = found, self.rounds
                weights = copy.deepcopy(self.student.state_dict())
        self.student.load_state_dict(weights)
        self.student.eval()
        return Distilled(self.rounds, self.updates, kept, best)

    def _affordable(self) -> bool:
        """Whether the budget holds another round, whose check takes about as long as the last one did."""
        limit = self.lab.budget.environment_steps
        used = self.lab.environment_steps_used - self.steps_before
        ahead = self.options.states_per_round + self.check_steps
        return (limit is None or used + ahead <= limit) and not self._late()

    def _late(self) -> bool:
        seconds = self.lab.budget.seconds
        return seconds is not None and time.monotonic() - self.started >= seconds

    def _check(self) -> float:
        """Mean return on the check seeds, the same for every student."""
        self.student.eval()
        episodes = self.lab.rollout(self.as_policy(), self.options.check_episodes, self.check_seeds)
        self.check_steps = sum(episodes.lengths)
        return episodes.mean_return

    def _gather(self) -> None:
        """Add states that the student visits, with the teacher's actions."""
        visited = self.lab.collect(self.as_policy(), self.options.states_per_round)
        self.states = torch.cat([self.states, torch.from_numpy(visited)])
        self.actions = torch.cat([self.actions, torch.from_numpy(self.teacher(visited))])

    def _learn(self, best: float) -> None:
        self.student.train()
        total = self.options.rounds * self.options.steps_per_round
        for _ in range(self.options.steps_per_round):
            if self._late():
                break
            self._set_learning_rate(self.updates / total)
            self._update()
            self.updates += 1
            if self.updates % PROGRESS_EVERY == 0:
                note = f"action error {self.action_error:.1%}, best return {best:.0f}"
                self.lab.progress(self.task, self.updates, total, note)

    def _set_learning_rate(self, done: float) -> None:
        cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * cosine

    def _update(self) -> None:
        rows = torch.randint(len(self.states), (self.options.batch_size,), generator=self.generator)
        before_tanh = self.body(self.states[rows])
        error = (self.head(before_tanh).detach() - self.actions[rows]) / self.half_range
        # The matching loss of the output function (Helmbold, Kivinen & Warmuth 1999, "Relative loss bounds
        # for single neurons"): its gradient by the pre-tanh output is the action error itself. A squared
        # error would lose its gradient where tanh is saturated, and one of pre-tanh values would spend
        # itself on differences that no action shows.
        loss = (error * before_tanh).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.action_error = error.abs().mean().item()
