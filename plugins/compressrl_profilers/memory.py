"""Memory by stage, each policy in a fresh process of its own: what the library costs, and what the model."""

from __future__ import annotations

import functools
import importlib
import json
import math
import mmap
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any, ClassVar

import numpy as np

from compressrl.errors import UsageError
from compressrl.interfaces import DEPLOYED_MODULE, DeployableRuntime, Workload
from compressrl.measuring.interleaving import interleaved
from compressrl.options import Option
from compressrl.records import Memory
from compressrl_profilers import memory_child
from compressrl_profilers.counter_file import SIZE, CounterFile, pread

STATM = "/proc/self/statm"
ROLLUP = Path("/proc/self/smaps_rollup")
NO_PROC = "Memory by stage needs Linux's /proc/self/smaps_rollup; this system has none."
INFERENCES = 1000
TIMEOUT_SECONDS = 300
Stages = dict[str, dict[str, int]]


def _added(before: str, after: str) -> Callable[[Stages], int]:
    return lambda run: run[after]["anonymous"] - run[before]["anonymous"]


def _peak(run: Stages) -> int:
    return max(stage["peak"] for stage in run.values())


_FIGURES: dict[str, Callable[[Stages], int]] = {
    "library": _added("interpreter", "import"),
    "model": _added("import", "load"),
    "runtime": _added("load", "steady"),
    "peak": _peak,
}


@dataclass(frozen=True)
class MemoryProfiler:
    """Bytes by stage of a fresh process: interpreter, import, load, first inference, 1000 inferences.

    The process is the one to be deployed where the runtime says which (`DeployableRuntime`); otherwise
    it reads the policy file and calls `Runtime.load`: numpy and that reader are then in the library.
    library: import - interpreter. What the process imports, even if it does so only on loading
    model:   load - import. The policy's file, as far as the loaded function holds it
    runtime: steady - load. What the first and 1000 further inferences add
    peak:    highest resident set of the process, shared libraries and all
    The first three are anonymous memory (smaps_rollup), which does not depend on what other processes map;
    each is the median of `repeats` processes, interleaved between policies, after one that does not count.
    `read` gives the resident set of this process, a level.
    """

    quantity: ClassVar[str] = "memory"
    unit: ClassVar[str] = "B"
    cumulative: ClassVar[bool] = False

    repeats: Annotated[int, Option("fresh processes a policy", low=1, high=100)] = 5

    @functools.cached_property
    def _statm(self) -> CounterFile:
        return CounterFile(STATM)

    def available(self) -> tuple[bool, str]:
        """(True, source) where /proc/self/statm can be read, else (False, reason)."""
        if self.read() is None:
            return False, f"The resident set needs Linux's {STATM}; this system has none."
        return True, STATM

    def read(self) -> float | None:
        try:
            return _resident_bytes(self._statm.read())
        except OSError:
            return None

    def reader(self) -> Callable[[], float]:
        file, last, level = self._statm, b"", math.nan

        def read() -> float:
            nonlocal last, level
            try:
                shown = pread(file.descriptor, SIZE, 0)
            except OSError:  # a forked process opens its own
                return self.read() or math.nan
            if shown != last:
                last, level = shown, _resident_bytes(shown)
            return level

        return read

    def measure(self, workloads: Sequence[Workload]) -> list[Memory]:
        """One record a workload, in some half a second (ONNX Runtime) to three (torch) a process."""
        if not ROLLUP.exists():
            return [_unknown(NO_PROC) for _ in workloads]
        with tempfile.TemporaryDirectory(prefix="compressrl-memory-") as folder:
            sides = [_Side(workload, Path(folder, str(i))) for i, workload in enumerate(workloads)]
            for side in [*sides, *interleaved(sides, self.repeats)]:
                side.run()
            return [side.record() for side in sides]


@dataclass(eq=False)
class _Side:
    """One policy's processes."""

    workload: Workload
    folder: Path
    runs: list[Stages] = field(default_factory=list)
    late: list[str] | None = None  # what loading imported in the first process; None before it ran
    failure: str = ""

    def run(self) -> None:
        """Run one process. The first tells what else loading imports: that belongs to the library."""
        if self.failure:
            return
        try:
            result = self._child()
        except UsageError as error:
            self.failure = str(error)
            return
        if result is None:
            return
        if self.late is None:
            self.late = result["late"]
        else:
            self.runs.append(result["stages"])

    def record(self) -> Memory:
        if self.failure:
            return _unknown(self.failure)
        figures = {name: [added(run) for run in self.runs] for name, added in _FIGURES.items()}
        return Memory(
            library=round(median(figures["library"])),
            model=round(median(figures["model"])),
            runtime=round(median(figures["runtime"])),
            peak=round(median(figures["peak"])),
            details={
                "process": "deployed"
                if (self.folder / DEPLOYED_MODULE).exists()
                else "reads the policy file",
                "primary": "anonymous memory by stage, VmHWM for the peak",
                "repeats": len(self.runs),
                "inferences": INFERENCES,
                "ranges": {name: [min(values), max(values)] for name, values in figures.items()},
                "stages": {stage: self._medians(stage) for stage in self.runs[0]},
            },
        )

    def _child(self) -> dict[str, Any] | None:
        result = self.folder / "result.json"
        job = self._job(result)
        # -I: no environment variable and no current folder adds anything to the interpreter's own cost.
        command = [sys.executable, "-I", memory_child.__file__, str(job)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.failure = f"The fresh process did not end within {TIMEOUT_SECONDS} s."
            return None
        if done.returncode:
            words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            self.failure = f"{self.workload.runtime_name} failed in a fresh process: {words[-1]}"
            return None
        parsed: dict[str, Any] = json.loads(result.read_text())
        return parsed

    def _job(self, result: Path) -> Path:
        if not self.folder.exists():
            self.folder.mkdir()
            self._write_policy()
            self.workload.observations.astype(np.float32).tofile(self.folder / "observations")
        job = {
            "path": sys.path,
            "deployed": str(self.folder) if (self.folder / DEPLOYED_MODULE).exists() else "",
            "target": self.workload.runtime_target,
            "options": dict(self.workload.runtime_options),
            "policy": str(self.folder / "policy"),
            "observations": str(self.folder / "observations"),
            "observation_size": self.workload.policy.observation_size,
            "action_size": self.workload.policy.action_size,
            "inferences": INFERENCES,
            "preload": self.late or [],
            "result": str(result),
        }
        path = self.folder / "job.json"
        path.write_text(json.dumps(job))
        return path

    def _write_policy(self) -> None:
        """What is deployed, or the policy file. Raises UsageError where it cannot be deployed."""
        module, _, attribute = self.workload.runtime_target.partition(":")
        runtime = getattr(importlib.import_module(module), attribute)(**self.workload.runtime_options)
        if isinstance(runtime, DeployableRuntime):
            runtime.deploy(self.workload.policy, self.folder)
        else:
            self.workload.policy.save(self.folder / "policy")

    def _medians(self, stage: str) -> dict[str, float]:
        return {name: median(run[stage][name] for run in self.runs) for name in self.runs[0][stage]}


def _resident_bytes(statm: bytes) -> float:
    return float(int(statm.split(None, 2)[1]) * mmap.PAGESIZE)


def _unknown(reason: str) -> Memory:
    return Memory(None, None, None, None, reason=reason)
