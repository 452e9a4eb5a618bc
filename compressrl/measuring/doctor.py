"""What measurements on this machine can rest on: meters, runtimes, and the state of the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressrl import plugins
from compressrl.errors import UsageError, in_words
from compressrl.interfaces import (
    DiagnosingProfiler,
    Finding,
    PreparingRuntime,
    Profiler,
    Runtime,
)
from compressrl.measuring import host, workloads

LOOK_SECONDS = 0.5  # /proc/stat counts in 10 ms
QUIET = 0.1  # cores: with less from others, a busy core of ours has over nine tenths of the busy time
CPU = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Condition:
    """Something of the machine that measurements depend on.

    good:   None where it cannot be seen, or is neither good nor bad
    value:  what it is now
    remedy: what to do about it; "" where there is nothing to do
    """

    name: str
    good: bool | None
    value: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """A profiler or runtime and its findings: one for each source that it knows."""

    plugin: plugins.Registered
    quantity: str  # "" for a runtime
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        owner = self.plugin.owner
        return {
            "name": self.plugin.entry.name,
            "distribution": owner.distribution,
            "version": owner.version,
            "quantity": self.quantity,
            "findings": [asdict(finding) for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Examination:
    """Everything that `compressrl doctor` tells."""

    profilers: tuple[Examined, ...]
    runtimes: tuple[Examined, ...]
    machine: tuple[Condition, ...]
    broken: tuple[plugins.Broken, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "profilers": [examined.to_json() for examined in self.profilers],
            "runtimes": [examined.to_json() for examined in self.runtimes],
            "machine": [asdict(condition) for condition in self.machine],
            "broken": [broken.to_json() for broken in self.broken],
        }


def examine() -> Examination:
    """Ask every installed profiler and runtime, and look at the machine; takes some seconds."""
    registry = plugins.registry()
    machine = tuple(_conditions())  # first: loading libraries keeps the machine busy
    return Examination(
        profilers=tuple(_examine_profiler(entry) for entry in registry.entries("profiler")),
        runtimes=tuple(_examine_runtime(entry) for entry in registry.entries("runtime")),
        machine=machine,
        broken=tuple(registry.broken),
    )


def _examine_profiler(registered: plugins.Registered) -> Examined:
    name, quantity = registered.entry.name, ""
    try:
        profiler: Profiler = plugins.create("profiler", name)
        quantity = profiler.quantity
        findings = _findings(name, profiler)
        if any(finding.usable for finding in findings):
            workloads.try_out(profiler, registered)
    except (Exception, SystemExit) as error:  # anybody's code
        findings = (_broken(registered, error),)
    return Examined(registered, quantity, findings)


def _findings(name: str, profiler: Profiler) -> tuple[Finding, ...]:
    if not isinstance(profiler, DiagnosingProfiler):
        usable, why = profiler.available()
        return (Finding(name, bool(usable), str(why)),)
    findings = tuple(profiler.diagnose())
    if not all(isinstance(finding, Finding) for finding in findings):
        raise TypeError("diagnose() must return a list of Finding")
    return findings


def _examine_runtime(registered: plugins.Registered) -> Examined:
    try:
        finding = _run_tiny_policy(registered.entry.name)
    except (Exception, SystemExit) as error:  # anybody's code
        finding = _broken(registered, error)
    return Examined(registered, "", (finding,))


def _run_tiny_policy(name: str) -> Finding:
    from compressrl.testing.policies import states, tiny_policy

    runtime: Runtime = plugins.create("runtime", name)
    policy = tiny_policy()
    if why := workloads.missing(runtime):
        return Finding(name, False, why)
    try:
        act = runtime.load(runtime.prepare(policy) if isinstance(runtime, PreparingRuntime) else policy)
    except UsageError as error:  # it says itself what it lacks
        return Finding(name, False, str(error))
    action = act(states(1)[0])
    return Finding(name, True, f"loads, and acts on a tiny policy ({action.size} actions)")


def _broken(registered: plugins.Registered, error: BaseException) -> Finding:
    remedy = f"Report it to the authors of {registered.owner.distribution}, or leave it out: "
    return Finding(
        registered.entry.name,
        False,
        f"broken: {in_words(error)}",
        f"{remedy}{plugins.BLOCK_VARIABLE}={registered.owner.entry_point}",
    )


def _conditions() -> Iterator[Condition]:
    yield _load()
    yield _cores()
    yield _governor()
    yield _turbo()
    yield _torch_threads()


def _cores() -> Condition:
    here, all_cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        os.cpu_count(),
    )
    name = host.describe()["cpu"]
    if here is None or here == all_cores:
        return Condition("cores", None, f"{all_cores}, {name}")
    return Condition("cores", None, f"{here} of {all_cores}, {name}")


def _load() -> Condition:
    """What other processes use of the cores now."""
    before, own = host.busy_seconds(), time.process_time()
    if before is None:
        return Condition("other processes", None, "their load cannot be seen here (no /proc/stat)")
    started = time.perf_counter()
    time.sleep(LOOK_SECONDS)
    seconds, own = time.perf_counter() - started, time.process_time() - own
    others = max(0.0, (host.busy_seconds() or before) - before - own) / seconds
    value = f"busy: {others:.1f} of {os.cpu_count()} cores"
    if others < QUIET:
        return Condition("other processes", True, value)
    remedy = "Stop them (`top` shows which): times scatter, and metered energy is `attributed`."
    return Condition("other processes", False, value, remedy)


def _governor() -> Condition:
    governor = _read(CPU / "cpu0/cpufreq/scaling_governor")
    if governor is None:
        return Condition("CPU governor", None, "not visible (virtual machine, or no cpufreq driver)")
    if governor == "performance":
        return Condition("CPU governor", True, governor)
    return Condition("CPU governor", False, governor, "sudo cpupower frequency-set -g performance")


def _turbo() -> Condition:
    files = {
        CPU / "intel_pstate/no_turbo": ("0", 1),
        CPU / "cpufreq/boost": ("1", 0),
    }
    for path, (on, off) in files.items():
        shown = _read(path)
        if shown == on:
            return Condition(
                "turbo", False, "on: the clock follows heat and load", f"echo {off} | sudo tee {path}"
            )
        if shown is not None:
            return Condition("turbo", True, "off")
    return Condition("turbo", None, "not visible (virtual machine, or no cpufreq driver)")


def _torch_threads() -> Condition:
    import torch

    threads = torch.get_num_threads()
    if threads == 1:
        return Condition("torch threads", True, "1")
    return Condition("torch threads", False, str(threads), "export OMP_NUM_THREADS=1")


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
