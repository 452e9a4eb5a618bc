"""Power over time: an energy counter sampled in the background while a block of code runs."""

from __future__ import annotations

import csv
import math
import threading
import time
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from compressrl import files
from compressrl.errors import UsageError
from compressrl.interfaces import Profiler

HERTZ = 20.0  # a RAPL counter moves every millisecond: its phase is 2 % of 50 ms
HERTZ_RANGE = (10.0, 100.0)
INITIAL_SAMPLES = 1024
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PowerTrace:
    """Samples of an energy counter.

    seconds: (N,) since the block was entered; the last one is its end
    joules:  (N,) since the first reading; NaN where the counter could not be read
    tasks:   N names, what was being done then (`PowerSampler.mark`)
    """

    seconds: Floats
    joules: Floats
    tasks: tuple[str, ...]

    @property
    def watts(self) -> Floats:
        """(N,) mean power since the sample before; NaN for the first, and where one of the two is unknown."""
        return np.diff(self.joules, prepend=math.nan) / np.diff(self.seconds, prepend=math.nan)

    def write_csv(self, path: Path) -> None:
        """Columns seconds, joules, watts, task; empty where NaN."""
        with files.atomic(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["seconds", "joules", "watts", "task"])
            for seconds, joules, watts, task in zip(
                self.seconds, self.joules, self.watts, self.tasks, strict=True
            ):
                writer.writerow([f"{seconds:.6f}", _cell(joules), _cell(watts), task])


class PowerSampler:
    """Samples a profiler's joules in a thread of its own while its block runs; then `trace` has them.

        with PowerSampler(profiler) as sampler:
            work()
        sampler.trace.watts

    The thread ends with the block, however that is left. A reading that fails is NaN in the trace and nothing
    else. `profiler` should be an instance of its own: the thread reads it beside everybody else.
    """

    def __init__(self, profiler: Profiler, hertz: float = HERTZ) -> None:
        """Raises UsageError for a rate out of 10-100 Hz, and for a profiler that does not count joules."""
        low, high = HERTZ_RANGE
        if not low <= hertz <= high:
            raise UsageError(f"{hertz:g} samples a second: choose {low:g} to {high:g}.")
        if not _counts_joules(profiler):
            raise UsageError(f"A power trace needs a counter of energy in J, not {profiler.quantity}.")
        self._profiler = profiler
        self._period = 1 / hertz
        self._samples = np.full((INITIAL_SAMPLES, 2), math.nan)
        self._count = 0
        self._marks: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="compressrl power trace", daemon=True)

    def __enter__(self) -> PowerSampler:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def mark(self, task: str) -> None:
        """Name what is done from now on."""
        if not self._marks or self._marks[-1][1] != task:
            self._marks.append((time.perf_counter(), task))

    @property
    def trace(self) -> PowerTrace:
        """What was sampled so far; a copy."""
        times, joules = self._samples[: self._count].T.copy()
        read = joules[~np.isnan(joules)]
        names = ["", *(task for _, task in self._marks)]
        begun = [moment for moment, _ in self._marks]
        return PowerTrace(
            seconds=times - times[0],
            joules=joules - (read[0] if read.size else 0.0),
            tasks=tuple(names[bisect_right(begun, moment)] for moment in times),
        )

    def _run(self) -> None:
        due = time.perf_counter() + self._period
        while not self._stop.wait(max(0.0, due - time.perf_counter())):
            self._sample()
            due = max(due + self._period, time.perf_counter())  # what was missed is not made up for

    def _sample(self) -> None:
        if self._count == len(self._samples):
            self._samples = np.concatenate([self._samples, np.full_like(self._samples, math.nan)])
        try:
            joules = self._profiler.read()
        except Exception:  # anybody's meter: the run is worth more than its trace
            joules = None
        self._samples[self._count] = time.perf_counter(), math.nan if joules is None else joules
        self._count += 1


def find_meter(profilers: Iterable[Profiler]) -> tuple[Profiler, str]:
    """The first profiler that counts joules here, and what it reads. Without one, UsageError says why."""
    reasons = []
    for profiler in filter(_counts_joules, profilers):
        available, text = profiler.available()
        if available:
            return profiler, text
        reasons.append(text)
    raise UsageError(f"No power trace: {' '.join(reasons) or 'no energy profiler is installed.'}")


def _counts_joules(profiler: Profiler) -> bool:
    return profiler.quantity == "energy" and profiler.unit == "J"


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"
