"""Where the time of a control step goes: the policy, the environment, the instrumentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compressrl.instrument import InstrumentedEnv
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.measuring.interleaving import interleaved
from compressrl.records import ControlStep

Env = InstrumentedEnv[Float32Array, Float32Array]
BLOCK = 50  # steps in a row on one side: its caches are warm after a few
BLOCKS = 20


def measure(sides: Sequence[tuple[PolicyFunction, Env]], seed: int) -> list[ControlStep]:
    """Let every policy control its environment for BLOCKS x BLOCK steps, in turn; closes the environments.

    Each part is the median over the steps, which neither the scheduler nor the turns of the other side move.
    """
    loops = [_Loop(act, env, seed) for act, env in sides]
    try:
        for loop in interleaved(loops, BLOCKS):
            loop.block()
        return [loop.record() for loop in loops]
    finally:
        for loop in loops:
            loop.env.close()


class _Loop:
    def __init__(self, act: PolicyFunction, env: Env, seed: int) -> None:
        self._act, self.env = act, env
        self._observation, _ = env.reset(seed=seed)
        self._policy_ns: list[NDArray[np.int64]] = []
        self._environment_ns: list[NDArray[np.int64]] = []

    def block(self) -> None:
        for _ in range(BLOCK):
            action = self._act(self._observation)
            self._observation, _, terminated, truncated, _ = self.env.step(action)
            if terminated or truncated:
                self._keep()
                self._observation, _ = self.env.reset()

    def record(self) -> ControlStep:
        self._keep()
        policy_ns, environment_ns = np.concatenate(self._policy_ns), np.concatenate(self._environment_ns)
        return ControlStep(
            policy_us=float(np.median(policy_ns)) / 1e3,
            environment_us=float(np.median(environment_ns)) / 1e3,
            instrumentation_us=self.env.overhead_ns_per_step / 1e3,
            steps=len(policy_ns),
        )

    def _keep(self) -> None:
        trace = self.env.trace
        self._policy_ns.append(trace.policy_ns)
        self._environment_ns.append(trace.environment_ns)
