"""The three built-in profilers. Declares and nothing else: the classes are imported when they are chosen."""

from compressrl.hookspecs import PluginEntry, hookimpl


@hookimpl
def compressrl_profilers() -> list[PluginEntry]:
    return [
        PluginEntry(
            "energy",
            "joules of a decision: Zeus (GPU, SoC), RAPL, or estimated from CPU time",
            "compressrl_profilers.energy:EnergyProfiler",
        ),
        PluginEntry(
            "memory",
            "bytes by stage of a fresh process: library, model, runtime, peak",
            "compressrl_profilers.memory:MemoryProfiler",
        ),
        PluginEntry(
            "latency",
            "time of a decision at batch 1: p50, p99",
            "compressrl_profilers.latency:LatencyProfiler",
        ),
    ]
