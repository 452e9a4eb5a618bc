"""What InstrumentedEnv costs over an empty gymnasium.Wrapper: `make bench-instrument`.

All step the same environment in one process, in turned order block by block; every figure is the lowest
decile over the blocks, which other work on the machine disturbs least. First on an environment that does
nothing, which leaves the wrappers alone, then on HalfCheetah-v5. Energy counters come from a fake powercap
tree (a package and its DRAM), so that two are read at every step; both move before every block, some 0.4 ms
on the environment that does nothing. Only the figures of one run compare: nanoseconds are this machine's.
"""

import os
import tempfile
import time
from pathlib import Path

import gymnasium
import numpy as np

from compressrl.instrument import InstrumentedEnv
from compressrl.testing.powercap import FakePowercap
from compressrl_profilers.energy import EnergyProfiler
from compressrl_profilers.latency import LatencyProfiler
from compressrl_profilers.memory import MemoryProfiler

BLOCKS, STEPS = 301, 100
LIMITS = {"time": 700, "full, memory and energy": 4000}  # ns over an empty wrapper, where nothing else runs
PROFILERS = {
    "light, three profilers": (lambda: [EnergyProfiler(), MemoryProfiler(), LatencyProfiler()], "light"),
    "time": (list, "time"),
    "full, no profiler": (list, "full"),
    "full, memory": (lambda: [MemoryProfiler()], "full"),
    "full, memory and energy": (lambda: [MemoryProfiler(), EnergyProfiler()], "full"),
    "full, three profilers": (lambda: [EnergyProfiler(), MemoryProfiler(), LatencyProfiler()], "full"),
}


class Nothing(gymnasium.Env):
    """Steps for nothing, for ever."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self) -> None:
        self.result = np.zeros(1, np.float32), 0.0, False, False, {}

    def reset(self, *, seed=None, options=None):
        return self.result[0], {}

    def step(self, action):
        return self.result


class SystemCalls(gymnasium.Wrapper):
    """What no wrapper can do without to read CPU time, memory and two energy counters: four system calls."""

    def __init__(self, env: gymnasium.Env, counters: FakePowercap) -> None:
        super().__init__(env)
        zones = [counters.counter(zone) for zone in ("package-0", "package-0/dram")]
        self.files = [os.open(path, os.O_RDONLY) for path in ("/proc/self/statm", *zones)]

    def step(self, action):
        result = self.env.step(action)
        statm, package, dram = self.files
        time.process_time()
        os.pread(statm, 24, 0)
        os.pread(package, 24, 0)
        os.pread(dram, 24, 0)
        return result


def block_ns(env: gymnasium.Env) -> float:
    """Mean time of a step over one block, ns."""
    step, action = env.step, env.action_space.sample()
    env.reset()
    started = time.perf_counter_ns()
    for _ in range(STEPS):
        step(action)
    return (time.perf_counter_ns() - started) / STEPS


def decile(times: list[float]) -> float:
    return sorted(times)[len(times) // 10]


def compare(make, counters: FakePowercap) -> dict[str, float]:
    """Print what each wrapper costs; ns added to a step, by name."""
    sides = {"empty wrapper": gymnasium.Wrapper(make()), "four system calls": SystemCalls(make(), counters)}
    for name, (profilers, level) in PROFILERS.items():
        sides[name] = InstrumentedEnv(make(), profilers(), level)
    times = {name: [] for name in sides}
    for number in range(BLOCKS):
        for name in list(sides) if number % 2 else reversed(sides):
            counters.advance(0.05, "package-0")
            counters.advance(0.005, "package-0/dram")
            times[name].append(block_ns(sides[name]))
    costs = {name: decile(values) for name, values in times.items()}
    empty = costs["empty wrapper"]
    print(f"{'':26}{'ns a step':>12}{'added':>10}{'ratio':>8}{'it reports':>12}")
    for name, env in sides.items():
        own = f"{env.overhead_ns_per_step:12.0f}" if isinstance(env, InstrumentedEnv) else ""
        print(f"{name:26}{costs[name]:12.0f}{costs[name] - empty:10.0f}{costs[name] / empty:8.2f}{own}")
    return {name: cost - empty for name, cost in costs.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COMPRESSRL_POWERCAP_ROOT"] = folder
        counters = FakePowercap(Path(folder))
        print("An environment that does nothing")
        added = compare(Nothing, counters)
        print("\nHalfCheetah-v5")
        compare(lambda: gymnasium.make("HalfCheetah-v5"), counters)
    print("\nAdded where nothing else is done")
    for name, limit in LIMITS.items():
        print(f"{name}: {added[name]:.0f} ns of at most {limit}")


if __name__ == "__main__":
    main()
