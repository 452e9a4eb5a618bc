"""What the memory profiler runs in a fresh process: read the memory after every stage.

Run by path as `python -I memory_child.py job.json`. Imports nothing that is not in the interpreter already,
before its first reading; neither psutil nor zeus ever.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import mmap
import sys

TYPE_CHECKING = False  # typing has it, too, but costs memory
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Function = Callable[[memoryview[float]], object]

KIB = 1024


def read_stage() -> dict[str, int]:
    """Bytes {anonymous, resident, peak}; the peak is that since the stage before, where it can be reset."""
    gc.collect()
    rollup = _fields("/proc/self/smaps_rollup")
    peak = _fields("/proc/self/status")["VmHWM"]
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
        file.write("5")
    return {"anonymous": rollup["Anonymous"], "resident": rollup["Rss"], "peak": peak}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Go through the stages of one policy in one runtime."""
    observations = _rows(job["observations"], job["observation_size"])
    stages = {"interpreter": read_stage()}
    sys.path[:] = job["path"]
    for name in job["preload"]:
        # Some names in sys.modules were put there by hand and cannot be imported.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    load = _deployed(job) if job["deployed"] else _by_the_runtime(job)
    imported = set(sys.modules)
    stages["import"] = read_stage()
    function = load()
    stages["load"] = read_stage()
    function(observations(0))
    stages["first"] = read_stage()
    late = sorted(set(sys.modules) - imported)
    for index in range(job["inferences"]):
        function(observations(index))
    stages["steady"] = read_stage()
    return {"stages": stages, "late": late}


def _rows(path: str, size: int) -> Callable[[int], memoryview[float]]:
    """Row by row of a file of float32, mapped and not read: the observations are the measurement's."""
    with open(path, "rb") as file:  # noqa: PTH123
        numbers = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)).cast("f")
    count = len(numbers) // size

    def row(index: int) -> memoryview[float]:
        start = index % count * size
        return numbers[start : start + size]

    return row


def _deployed(job: dict[str, Any]) -> Callable[[], Function]:
    """Import the deployed module: this package and numpy stay out, unless that needs them."""
    sys.path.insert(0, job["deployed"])
    module = importlib.import_module("deployed")
    return lambda: module.load(job["deployed"], job["observation_size"], job["action_size"])


def _by_the_runtime(job: dict[str, Any]) -> Callable[[], Function]:
    """Import the runtime, numpy and the reader of policy files."""
    import numpy as np

    from compressrl.policy import Policy

    module, _, attribute = job["target"].partition(":")
    runtime = getattr(importlib.import_module(module), attribute)(**job["options"])

    def load() -> Function:
        function = runtime.load(Policy.load(job["policy"]))
        return lambda observation: function(np.asarray(observation))

    return load


def _fields(path: str) -> dict[str, int]:
    """`Name:   12 kB` lines of a /proc file, in bytes."""
    with open(path) as file:  # noqa: PTH123 (pathlib is not imported here)
        rows = [line.split() for line in file]
    return {row[0].rstrip(":"): int(row[1]) * KIB for row in rows if row[-1] == "kB"}


if __name__ == "__main__":
    with open(sys.argv[1]) as job_file:  # noqa: PTH123
        job = json.load(job_file)
    result = run(job)
    with open(job["result"], "w") as result_file:  # noqa: PTH123
        json.dump(result, result_file)
