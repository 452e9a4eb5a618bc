"""Recovery between the cuts of an iterative pruning."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from torch import nn

from compressrl.lab import Lab
from compressrl.policy import Policy
from compressrl_distillation.distillation import Distillation, DistillationOptions, Distilled, least


class Recovery:
    """One budget of distillation, spent after several cuts; the states gathered stay from cut to cut."""

    def __init__(
        self, student: nn.Sequential, policy: Policy, lab: Lab, options: DistillationOptions, cuts: int
    ) -> None:
        """student: network of `policy` that is pruned in place, between two calls of `run`"""
        self.student, self.policy, self.lab, self.options, self.cuts = student, policy, lab, options, cuts
        self.teacher = lab.baseline or policy
        self.started, self.steps_before = time.monotonic(), lab.environment_steps_used
        self.states = lab.collect(self.teacher, options.states_per_round)
        self.done: list[Distilled] = []

    def run(self, cut: int) -> None:
        """Recover from cut number 1 .. `cuts`."""
        task = f"recovery {cut} of {self.cuts}"
        distillation = Distillation(
            self.student, self._as_policy, self.teacher, self.states, self.lab, self._share(cut), task
        )
        self.done.append(distillation.run())
        self.states = distillation.states.numpy()

    def figures(self) -> list[str]:
        """For a policy's provenance."""
        updates = sum(done.updates for done in self.done)
        last = self.done[-1]
        rounds = ", ".join(str(done.rounds) for done in self.done)
        return [
            f"rounds after the cuts: {rounds}",
            f"the best of the last is {last.kept_round}",
            f"{updates} updates",
            f"stopped: {last.stopped}",
            f"{self._steps_used()} environment steps",
        ]

    def _steps_used(self) -> int:
        return self.lab.environment_steps_used - self.steps_before

    def _as_policy(self) -> Policy:
        return self.policy.with_network(self.student, "pruning under way")

    def _share(self, cut: int) -> DistillationOptions:
        """What this cut's recovery may spend: what the earlier ones left, up to its part of the budget."""
        part = self._part(cut)
        seconds = least(self.options.seconds, self.lab.budget.seconds)
        steps = least(self.options.environment_steps, self.lab.budget.environment_steps)
        share = replace(
            self.options,
            rounds=int(self.options.rounds * part) - int(self.options.rounds * self._part(cut - 1)),
            seconds=max(seconds * part - (time.monotonic() - self.started), 0),
            environment_steps=None if math.isinf(steps) else max(int(steps * part) - self._steps_used(), 0),
        )
        # Only the last recovery's student is handed over: the others need neither a proof nor a fine check.
        return share if cut == self.cuts else replace(share, check_episodes=1, stop_margin=0.0)

    def _part(self, cut: int) -> float:
        """Share of the budget used by the end of this cut's recovery: half of it is the last one's."""
        return 1.0 if cut == self.cuts else cut / (2 * max(self.cuts - 1, 1))
