"""The energy of a whole control step, and whether it is that of its parts: the policy and the environment."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressrl.interfaces import PolicyFunction, Workload
from compressrl_profilers import figures
from compressrl_profilers.figures import Figure, Metered
from compressrl_profilers.meters import Meter
from compressrl_profilers.windows import LONGEST_SECONDS, Window, measure_windows
from compressrl_profilers.work import Work, control_steps, record_actions

if TYPE_CHECKING:
    from compressrl.environments import Env

ROUNDS = 3  # a check beside the figure proper: fewer windows do
ADDS_UP = 0.1  # the parts may miss the whole by this share of it


@dataclass(frozen=True)
class ControlStep:
    """Windows of the environment on recorded actions (B), and of each policy and the environment (C)."""

    idle: list[Window]
    environment: list[Window]
    both: list[list[Window]]

    def report(self, index: int, policy: list[Window]) -> dict[str, Any]:
        """CPU seconds and, where there are meters, net joules of a step; `policy` are the windows of (A)."""
        sides = policy, self.environment, self.both[index]
        net = [Metered.of(side, self.idle).figure for side in sides] if self.idle else None
        return {
            "windows": ROUNDS,
            "steps": figures.decisions(self.both[index]),
            "cpu_seconds": _parts(*(figures.cpu_seconds(side) for side in sides)),
            "joules": None if net is None else _parts(*net),
        }


def measure(
    workloads: Sequence[Workload], seconds: float, meters: Sequence[Meter] = ()
) -> ControlStep | None:
    """Windows of (B) and, for every workload, of (C), interleaved, on one episode of the first workload's.

    None where the workloads come from no environment, or windows are so long (a battery's) that a check would
    take an hour. Raises MeterError.
    """
    env_id, baseline = workloads[0].env_id, workloads[0].function
    if not env_id or seconds > LONGEST_SECONDS:
        return None
    with contextlib.ExitStack() as stack:

        def replay(policy: PolicyFunction | None = None) -> Work:
            return control_steps(stack.enter_context(_open(env_id)), actions, policy)

        actions = record_actions(stack.enter_context(_open(env_id)), baseline)
        works = [replay(), *(replay(workload.function) for workload in workloads)]
        idle, (environment, *both) = measure_windows(works, ROUNDS, seconds, meters)
    return ControlStep(idle, environment, both)


def _open(env_id: str) -> contextlib.closing[Env]:
    from compressrl import environments  # and Gymnasium, which a meter alone does not need

    return contextlib.closing(environments.make(env_id))


def _parts(policy: Figure, environment: Figure, both: Figure) -> dict[str, Any]:
    rest, (low, high) = figures.remainder(both, [policy, environment])
    return {
        "policy": policy.mean,
        "environment": environment.mean,
        "both": both.mean,
        "both_minus_parts": rest,
        "both_minus_parts_ci95": [low, high],
        "adds_up": low <= 0 <= high or abs(rest) <= ADDS_UP * abs(both.mean),
    }
