"""InstrumentedEnv: time, CPU, energy and memory counters, read at every environment step."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Literal, SupportsFloat, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from compressrl.errors import UnknownNameError, UsageError
from compressrl.interfaces import Profiler
from compressrl.measuring import step_counters
from compressrl.measuring.step_costs import EpisodeCost, StepTrace

__all__ = ["EpisodeCost", "InstrumentedEnv", "Level", "StepTrace"]

ObsType = TypeVar("ObsType")
ActType = TypeVar("ActType")
Level = Literal["full", "light", "time"]

STRIDES: dict[str, int] = {"full": 1, "light": 64, "time": 0}  # steps from reading to reading; 0: none
INITIAL_STEPS = 1024
_CLOCKS = 3  # a step's row: entered, environment returned, counters read
_NAN = math.nan
_clock = time.perf_counter_ns


class InstrumentedEnv(gymnasium.Wrapper[ObsType, ActType, ObsType, ActType], RecordConstructorArgs):
    """Reads time, process CPU and the profilers' counters at every step of the wrapped environment.

    Spaces, observations, rewards and `info` are those of the wrapped environment. Only with `info_key` does
    `info[info_key]` appear at every step, without what was not read there:

        {"environment_s": seconds inside this step, "policy_s": seconds since the step before,
         "cpu_s": CPU seconds since the reset, "energy_J": joules since the reset, "memory_B": bytes now, ...}

    profilers: whatever has quantity, unit and read(); one whose read() gives None at a reset (no meter) is
               left alone until the next reset, and its column stays NaN
    level:     `full` reads every counter at every step; `light` takes the time of every step and reads the
               counters at every 64th and the last; `time` takes the time only
    info_key:  "" leaves `info` untouched; a key that the environment uses itself is a UsageError

    A step is shorter than the period of an energy counter (a millisecond and more): take differences over
    a second or longer. In a vector environment the time between steps holds the steps of the siblings.
    """

    episodes: list[EpisodeCost]

    def __init__(
        self,
        env: gymnasium.Env[ObsType, ActType],
        profilers: Sequence[Profiler] = (),
        level: Level = "full",
        info_key: str = "",
    ) -> None:
        """Raises UnknownNameError for an unknown level. Reads no counter before the first reset."""
        # Not copied: a profiler may hold what cannot be, and a rebuilt environment has the same meters.
        RecordConstructorArgs.__init__(
            self, _disable_deepcopy=True, profilers=tuple(profilers), level=level, info_key=info_key
        )
        gymnasium.Wrapper.__init__(self, env)
        if level not in STRIDES:
            raise UnknownNameError("instrumentation level", level, STRIDES)
        self.episodes = []
        self._overhead = 0, 0.0  # steps, ns
        self._stride = STRIDES[level]
        self._columns = step_counters.columns(profilers) if self._stride else {}
        self._info_key = info_key
        self._live: list[tuple[int, Callable[[], float]]] = []
        # Rows one after the other in lists, whose cells take a value in half the time of an array's.
        self._width, self._capacity = len(self._columns), INITIAL_STEPS
        self._clocks = [0] * (INITIAL_STEPS * _CLOCKS)
        self._counters = [_NAN] * (INITIAL_STEPS * self._width)
        self._row = 0
        self._next_read = 0
        self._recorded = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """Reset the environment and start an episode; an unfinished one is recorded first."""
        self._cut_short()
        result = self.env.reset(seed=seed, options=options)
        self._start()
        return result

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment, then read what is due. Everything in here counts at every step."""
        entered = _clock()
        result = self.env.step(action)
        returned = _clock()
        row = self._row = self._row + 1
        if row == self._capacity:
            self._grow()
        done = result[2] or result[3]
        if row == self._next_read or done:
            self._next_read = row + self._stride
            counters = self._counters
            cell = row * self._width
            for index, read in self._live:
                counters[cell + index] = read()
        clocks = self._clocks
        cell = row * _CLOCKS
        clocks[cell] = entered
        clocks[cell + 1] = returned
        if self._info_key:
            self._add_info(result[4], row)
        clocks[cell + 2] = _clock()
        if done and not self._recorded:
            self._record(finished=True)
        return result

    def close(self) -> None:
        """Record an unfinished episode and close the environment; the profilers are the caller's."""
        self._cut_short()
        super().close()

    @property
    def trace(self) -> StepTrace:
        """The steps of the current episode, or of the last one until the next reset; a copy."""
        entered, returned, left = self._clock_rows().T
        readings = self._counter_rows()
        return StepTrace(
            environment_ns=returned[1:] - entered[1:],
            policy_ns=entered[1:] - left[:-1],
            instrumentation_ns=left[1:] - returned[1:],
            counters={name: readings[:, index].copy() for index, name in enumerate(self._columns)},
        )

    @property
    def overhead_ns_per_step(self) -> float:
        """What this wrapper adds to a step, mean over all steps so far, in ns; NaN before the first.

        The time from the environment's return to the end of the readings is taken at every step, and counts
        with its median in each episode, among steps that read the counters and among those that do not: a
        reading that the scheduler interrupted tells nothing of the wrapper. What this misses (the call, the
        outer clock readings) is measured once a process, on an environment that does nothing.
        """
        steps, ns = self._overhead
        if not self._recorded:
            steps, ns = steps + self._row, ns + self._seen_ns(self.trace)
        return ns / steps + _unseen_ns_per_step() if steps else _NAN

    def _start(self) -> None:
        used = (self._row + 1) * self._width
        self._counters[:used] = [_NAN] * used
        self._row = 0
        self._recorded = False
        self._next_read = self._stride
        readers = [(index, column.reader()) for index, column in enumerate(self._columns.values())]
        self._live = [(index, read) for index, read in readers if not math.isnan(read())]
        self._read(0)
        self._clocks[_CLOCKS - 1] = _clock()

    def _read(self, row: int) -> None:
        for index, read in self._live:
            self._counters[row * self._width + index] = read()

    def _add_info(self, info: dict[str, Any], row: int) -> None:
        if self._info_key in info:
            raise UsageError(f"`info` has {self._info_key!r} already; choose another info_key.")
        left, entered, returned = self._clocks[row * _CLOCKS - 1 : row * _CLOCKS + 2]
        cost = {"environment_s": (returned - entered) / 1e9, "policy_s": (entered - left) / 1e9}
        for index, (name, column) in enumerate(self._columns.items()):
            first, now = self._counters[index], self._counters[row * self._width + index]
            if not math.isnan(now):
                cost[name] = now - first if column.cumulative else now
        info[self._info_key] = cost

    def _cut_short(self) -> None:
        if self._row and not self._recorded:
            self._read(self._row)
            self._record(finished=False)

    def _record(self, finished: bool) -> None:
        cumulative = {name: column.cumulative for name, column in self._columns.items()}
        trace = self.trace
        self.episodes.append(EpisodeCost.of(trace, cumulative, finished))
        steps, ns = self._overhead
        self._overhead = steps + self._row, ns + self._seen_ns(trace)
        self._recorded = True

    def _seen_ns(self, trace: StepTrace) -> float:
        """Instrumentation time of the current episode, each step at the median of its like."""
        ns = trace.instrumentation_ns
        read = ~np.isnan(self._counter_rows()[1:]).all(axis=1)
        return float(sum(np.median(part) * len(part) for part in (ns[read], ns[~read]) if len(part)))

    def _clock_rows(self) -> NDArray[np.int64]:
        """(steps + 1, 3) of the current episode."""
        rows = self._row + 1
        return np.array(self._clocks[: rows * _CLOCKS], np.int64).reshape(rows, _CLOCKS)

    def _counter_rows(self) -> NDArray[np.float64]:
        """(steps + 1, columns) of the current episode."""
        rows = self._row + 1
        return np.array(self._counters[: rows * self._width], np.float64).reshape(rows, self._width)

    def _grow(self) -> None:
        self._clocks += [0] * len(self._clocks)
        self._counters += [_NAN] * len(self._counters)
        self._capacity *= 2

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: a reader cannot be."""
        return self.__dict__ | {"_live": [index for index, _ in self._live]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        read = list(self._columns.values())
        self._live = [(index, read[index].reader()) for index in state["_live"]]


class _Nothing(gymnasium.Env[Any, Any]):
    """An environment that does nothing: what remains is the wrapper."""

    observation_space = spaces.Discrete(1)
    action_space = spaces.Discrete(1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        return 0, {}

    def step(self, action: int) -> tuple[int, SupportsFloat, bool, bool, dict[str, Any]]:
        return 0, 0.0, False, False, {}


@functools.cache
def _unseen_ns_per_step(repeats: int = 15, steps: int = 200) -> float:
    """Cost of the wrapper over an empty gymnasium.Wrapper that its own clock readings do not hold."""
    empty = gymnasium.Wrapper(_Nothing())
    timed = InstrumentedEnv(_Nothing(), level="time")
    timed.reset()
    differences = []
    for _ in range(repeats):
        plain, wrapped = _stepping_ns(empty, steps), _stepping_ns(timed, steps)
        seen = timed.trace.instrumentation_ns[-steps:].sum()
        differences.append((wrapped - plain - float(seen)) / steps)
    return max(0.0, median(differences))


def _stepping_ns(env: gymnasium.Env[Any, Any], steps: int) -> int:
    step = env.step
    started = _clock()
    for _ in range(steps):
        step(0)
    return _clock() - started
