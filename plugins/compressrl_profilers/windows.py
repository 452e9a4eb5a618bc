"""Windows of work: long enough for a meter, interleaved between policies and the idle machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compressrl.measuring import host
from compressrl.measuring.interleaving import interleaved
from compressrl_profilers.meters import Meter, MeterError
from compressrl_profilers.work import Work

PARKED_SECONDS = 0.02
SHARP_SECONDS = 0.0005  # a reading takes some µs, being interrupted some ms
SHARP_TRIES = 5
MIN_TICKS = 50  # with fewer, the counter's phase alone makes several per cent
AIMED_TICKS = 75
LONGEST_SECONDS = 10.0  # to which windows are stretched for a slow counter: 5-8 s for a GPU's


@dataclass(frozen=True, slots=True)
class Window:
    """What passed in one window.

    seconds, cpu_seconds: wall time, and CPU time of all threads of this process
    decisions:    steps of its work; 0 in an idle window
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


def parked() -> int:
    """The idle window's work: this process sleeps."""
    time.sleep(PARKED_SECONDS)
    return 0


def measure_windows(
    works: Sequence[Work], rounds: int, seconds: float, meters: Sequence[Meter] = ()
) -> tuple[list[Window], list[list[Window]]]:
    """Idle windows, and the windows of every work: `rounds` of each, interleaved, after one warm-up.

    Windows of up to `LONGEST_SECONDS` are stretched, up to that, where the warm-up shows a counter that needs
    it; longer ones are taken as asked. Without meters nothing idles. Raises MeterError when a meter fails,
    stands still or is too slow.
    """
    for work in works:
        warm_up = window(work, min(seconds, LONGEST_SECONDS), meters)
        work.fit_chunk(warm_up.decisions / warm_up.seconds)
        if seconds <= LONGEST_SECONDS:
            seconds = max([seconds, *_needed_seconds(warm_up, meters)])
    everything: list[Callable[[], int]] = [parked, *works]
    found: dict[Callable[[], int], list[Window]] = {side: [] for side in everything}
    for side in interleaved(everything[0 if meters else 1 :], rounds):
        taken = window(side, seconds, meters)
        _refuse_slow_counter(taken, meters)
        found[side].append(taken)
    return found[parked], [found[work] for work in works]


def window(work: Callable[[], int], seconds: float, meters: Sequence[Meter]) -> Window:
    """Repeat `work` (it returns how many steps it took) for `seconds`; read the meters in between."""
    decisions, ticks = 0, [0] * len(meters)
    busy = host.busy_seconds()
    cpu = time.process_time()
    started, first = ended, last = _reading(meters)
    while ended - started < seconds:
        decisions += work()
        ended, now = _reading(meters)
        for index, value in enumerate(now):
            ticks[index] += value != last[index]
        last = now
    cpu = time.process_time() - cpu
    for meter in meters:
        meter.check()
    return Window(
        seconds=ended - started,
        cpu_seconds=cpu,
        decisions=decisions,
        joules=tuple(end - start for start, end in zip(first, last, strict=True)),
        ticks=tuple(ticks),
        busy_seconds=None if busy is None else (host.busy_seconds() or busy) - busy,
    )


def _reading(meters: Sequence[Meter]) -> tuple[float, list[float]]:
    """Time and joules of one moment: read again where another process came in between."""
    for _ in range(SHARP_TRIES):
        before = time.perf_counter()
        joules = [meter.read() for meter in meters]
        after = time.perf_counter()
        if after - before < SHARP_SECONDS:
            break
    return after, joules


def _needed_seconds(warm_up: Window, meters: Sequence[Meter]) -> list[float]:
    needed = []
    for meter, ticks in zip(meters, warm_up.ticks, strict=True):
        needed.append(AIMED_TICKS * warm_up.seconds / max(ticks, 1))
        if needed[-1] > LONGEST_SECONDS:
            raise MeterError(
                f"{meter.source} moved {ticks} times in {warm_up.seconds:.2g} s: too slow, a figure needs "
                f"{MIN_TICKS} moves in a window of at most {LONGEST_SECONDS:g} s."
            )
    return needed


def _refuse_slow_counter(taken: Window, meters: Sequence[Meter]) -> None:
    for meter, ticks in zip(meters, taken.ticks, strict=True):
        # Parked, the meters are looked at too seldom to count every tick.
        if taken.decisions and ticks < MIN_TICKS:
            raise MeterError(
                f"{meter.source} moved {ticks} times in a window of {taken.seconds:.2g} s; "
                f"a figure needs {MIN_TICKS}."
            )
