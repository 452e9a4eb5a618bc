"""On-policy distillation: a student network learns to act as its teacher does, on the states that it visits.

DAgger (Ross, Gordon & Bagnell 2011, arXiv 1011.0686): roll out the student, label its states with the
teacher's actions, learn from everything gathered so far, and again. Returns swing between rounds, so every
round is checked on episode seeds of its own and the best student is kept.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from compressrl import statistics
from compressrl.interfaces import Float32Array
from compressrl.lab import Lab
from compressrl.options import Option
from compressrl.policy import Policy
from compressrl_distillation.descent import descent

PROGRESS_EVERY = 50  # updates
PROOF_EPISODES = 10  # held out
WORSE = 0.1  # of the return: more than a check's luck
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
    stop_margin: Annotated[
        float,
        Option("stop once held-out episodes prove that less of the return is lost; 0: never", low=0, high=1),
    ] = 0.02
    seconds: Annotated[float | None, Option("stop after this long; none: after all rounds", low=0)] = None
    environment_steps: Annotated[
        int | None,
        Option("stop before more environment steps are used, first states and check apart", low=0),
    ] = None


@dataclass(frozen=True)
class Distilled:
    """What a distillation did."""

    rounds: int
    updates: int
    kept_round: int  # 0: the student as it came
    check_return: float  # mean over the check episodes, of the student that is kept
    stopped: str  # why it ended

    def figures(self) -> list[str]:
        """For a policy's provenance."""
        rounds = f"{self.rounds} rounds, the best is {self.kept_round}"
        return [rounds, f"{self.updates} updates", f"stopped: {self.stopped}"]


@contextmanager
def one_thread() -> Iterator[None]:
    """The same seed then gives the same weights whatever the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Distillation:
    """One distillation: `run` trains the student in place."""

    def __init__(
        self,
        student: nn.Sequential,
        as_policy: Callable[[], Policy],
        teacher: Policy,
        states: Float32Array,
        lab: Lab,
        options: DistillationOptions,
        task: str,
        steps_used: int = 0,
    ) -> None:
        """student:   (batch, observation_size) -> (batch, action_size) in environment units
        as_policy: the student as it would be deployed now; that is what is rolled out
        states:    (N, observation_size) to begin with, visited by the teacher
        task:      name of the work for the progress display
        steps_used: environment steps of the budget that were spent before, to gather `states`
        """
        self.student, self.as_policy, self.teacher = student, as_policy, teacher
        self.lab, self.options, self.task = lab, options, task
        self.states, self.actions = torch.from_numpy(states), torch.from_numpy(teacher(states))
        self.check_seeds, self.proof_seeds = (
            self._seeds(n) for n in (options.check_episodes, PROOF_EPISODES)
        )
        self.generator = torch.Generator().manual_seed(int(lab.rng.integers(2**63)))
        self.descent = descent(student, torch.from_numpy(teacher.half_range))
        self.started = time.monotonic()
        self.steps_before = lab.environment_steps_used - steps_used
        self.updates = self.rounds = self.check_steps = self.longest = 0
        self.action_error = 0.0  # of the last update
        self.teacher_returns: tuple[float, ...] | None = None  # on the proof seeds

    def _seeds(self, count: int) -> list[int]:
        return [int(seed) for seed in self.lab.rng.integers(2**31, size=count)]

    def run(self) -> Distilled:
        """Leave the student in eval mode with the weights of its best round; says what was done.

        Stops early, between two updates, where the seconds are used up; between two rounds where the
        environment steps would not last, where the student is proven to be as good as its teacher, and
        where an action is no longer a number.
        """
        best = found = self._check()
        weights, kept, stopped = copy.deepcopy(self.student.state_dict()), 0, ""
        while not (stopped := stopped or self._spent()):
            self.rounds += 1
            self._gather()
            self._learn(best)
            if not math.isfinite(self.action_error) or not self._finite():
                stopped = "diverged"
                logging.getLogger("compressrl").warning(
                    "warning: %s diverged in round %d; the student of round %d is kept",
                    self.task, self.rounds, kept,
                )  # fmt: skip
                break
            found = self._check()
            if found > best:
                best, kept = found, self.rounds
                weights = copy.deepcopy(self.student.state_dict())
                stopped = "as good as its teacher" if self._proven() else ""
        if stopped != "diverged" and kept == 0 and found < best - WORSE * abs(best):
            logging.getLogger("compressrl").warning(
                "warning: %s made it worse in all of %d rounds (return %.0f, before %.0f); the student is "
                "kept as it came; a lower learning_rate may help", self.task, self.rounds, found, best,
            )  # fmt: skip
        self.student.load_state_dict(weights)
        self.student.eval()
        return Distilled(self.rounds, self.updates, kept, best, stopped)

    def _spent(self) -> str:
        """Why no further round is begun, "" where one is."""
        if self.rounds == self.options.rounds:
            return "all rounds done"
        return "" if self._affordable() else "budget used up"

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.student.parameters())

    def _proven(self) -> bool:
        """Whether the student is non-inferior on episodes that chose no student: paired, held out."""
        proofs = 1 if self.teacher_returns else 2
        if not self.options.stop_margin or self._steps_left() < proofs * PROOF_EPISODES * self.longest:
            return False
        if self.teacher_returns is None:
            self.teacher_returns = self._prove(self.teacher)
        student_returns = self._prove(self.as_policy())
        margin = self.options.stop_margin
        return statistics.retention(self.teacher_returns, student_returns, margin=margin).non_inferior

    def _prove(self, policy: Policy) -> tuple[float, ...]:
        return self.lab.rollout(policy, PROOF_EPISODES, self.proof_seeds).returns

    def _affordable(self) -> bool:
        """Whether the budgets hold another round, whose check takes about as long as the last one did."""
        round_steps = self.options.states_per_round + self.check_steps
        return self._steps_left() >= round_steps and not self._late()

    def _steps_left(self) -> float:
        limit = least(self.options.environment_steps, self.lab.budget.environment_steps)
        return limit - (self.lab.environment_steps_used - self.steps_before)

    def _late(self) -> bool:
        limit = least(self.options.seconds, self.lab.budget.seconds)
        return time.monotonic() - self.started >= limit

    def _check(self) -> float:
        """Mean return on the check seeds, the same for every student."""
        self.student.eval()
        episodes = self.lab.rollout(self.as_policy(), self.options.check_episodes, self.check_seeds)
        self.check_steps, self.longest = sum(episodes.lengths), max(episodes.lengths)
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
            self._update(self.updates / total)
            self.updates += 1
            if self.updates % PROGRESS_EVERY == 0:
                note = f"action error {self.action_error:.1%}, best return {best:.0f}"
                self.lab.progress(self.task, self.updates, total, note)

    def _update(self, done: float) -> None:
        """done: the share of all updates that lies behind"""
        cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done))
        rows = torch.randint(len(self.states), (self.options.batch_size,), generator=self.generator)
        self.action_error = self.descent.step(
            self.states[rows], self.actions[rows], self.options.learning_rate * cosine
        )


def least(*limits: float | None) -> float:
    """The tightest of limits, None being no limit."""
    return min((limit for limit in limits if limit is not None), default=math.inf)
