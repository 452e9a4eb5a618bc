"""Windows of decisions: long enough for a meter, interleaved between policies and the idle machine."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compressrl.interfaces import Workload
from compressrl_profilers.interleaving import interleaved
from compressrl_profilers.meters import Meter, MeterError

CHUNK_SECONDS = 0.002  # between two readings of the meters: RAPL moves about once a millisecond
PARKED_SECONDS = 0.02
MIN_TICKS = 50  # with fewer, the counter's phase alone makes several per cent


@dataclass(frozen=True, slots=True)
class Window:
    """What passed in one window.

    seconds, cpu_seconds: wall time, and CPU time of all threads of this process
    decisions:    0 in an idle window
    joules:       one figure a meter
    ticks:        how often each meter's counter was seen to move
    busy_seconds: CPU time of the whole machine, all processes; None where /proc/stat is missing
    """

    seconds: float
    cpu_seconds: float
    decisions: int
    joules: tuple[float, ...]
    ticks: tuple[int, ...]
    busy_seconds: float | None


class Decisions:
    """Workload A of the protocol: the policy on recorded observations, batch 1, over and over."""

    def __init__(self, workload: Workload) -> None:
        self._function = workload.function
        self._observations = itertools.cycle(list(workload.observations))
        self.chunk = 1

    def __call__(self) -> int:
        function = self._function
        for observation in itertools.islice(self._observations, self.chunk):
            function(observation)
        return self.chunk

    def fit_chunk(self, warm_up: Window) -> None:
        """Choose how many decisions pass between two readings of the meters."""
        self.chunk = max(1, round(CHUNK_SECONDS * warm_up.decisions / warm_up.seconds))


def parked() -> int:
    """The idle window's work: this process sleeps."""
    time.sleep(PARKED_SECONDS)
    return 0


def measure_windows(
    workloads: Sequence[Workload], rounds: int, seconds: float, meters: Sequence[Meter] = ()
) -> tuple[list[Window], list[list[Window]]]:
    """Idle windows, and the windows of every workload: `rounds` of each, interleaved, after one warm-up.

    Without meters nothing idles. Raises MeterError when a meter fails or its counter is too slow.
    """
    loops = [Decisions(workload) for workload in workloads]
    for loop in loops:
        loop.fit_chunk(window(loop, seconds, meters))
    everything: list[Callable[[], int]] = [parked, *loops]
    found: dict[Callable[[], int], list[Window]] = {side: [] for side in everything}
    for side in interleaved(everything[0 if meters else 1 :], rounds):
        taken = window(side, seconds, meters)
        _refuse_slow_counter(taken, meters)
        found[side].append(taken)
    return found[parked], [found[loop] for loop in loops]


def window(work: Callable[[], int], seconds: float, meters: Sequence[Meter]) -> Window:
    """Repeat `work` (it returns its number of decisions) for `seconds`; read the meters in between."""
    decisions, ticks = 0, [0] * len(meters)
    busy = _busy_seconds()
    first = last = [meter.read() for meter in meters]
    cpu, started = time.process_time(), time.perf_counter()
    elapsed = 0.0
    while elapsed < seconds:
        decisions += work()
        now = [meter.read() for meter in meters]
        for index, value in enumerate(now):
            ticks[index] += value != last[index]
        last = now
        elapsed = time.perf_counter() - started
    cpu = time.process_time() - cpu
    for meter in meters:
        meter.check()
    return Window(
        seconds=elapsed,
        cpu_seconds=cpu,
        decisions=decisions,
        joules=tuple(end - start for start, end in zip(first, last, strict=True)),
        ticks=tuple(ticks),
        busy_seconds=None if busy is None else (_busy_seconds() or busy) - busy,
    )


def _refuse_slow_counter(taken: Window, meters: Sequence[Meter]) -> None:
    for meter, ticks in zip(meters, taken.ticks, strict=True):
        # Parked, the meters are looked at too seldom to count every tick.
        if taken.decisions and ticks < MIN_TICKS:
            raise MeterError(
                f"{meter.source} moved {ticks} times in a window of {taken.seconds:.2g} s, fewer than the "
                f"{MIN_TICKS} that a figure needs: use longer windows (option window_seconds)."
            )


def _busy_seconds() -> float | None:
    """CPU time that the machine has spent on anything, all cores; None where /proc/stat is missing."""
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=8)
    except OSError:
        return None
    # cpu user nice system idle iowait irq softirq: all but idle and iowait
    user, nice, system, _, _, irq, softirq = map(int, fields[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
