"""How figures are written in tables: with their unit, and n/a where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compressrl.records import Energy, Latency, Reading


def size(count: int | None) -> str:
    """Bytes as KiB or MiB."""
    if count is None:
        return "n/a"
    return f"{count / 1024:,.1f} KiB" if count < 1 << 20 else f"{count / (1 << 20):,.1f} MiB"


def micro(value: float | None, unit: str) -> str:
    return "n/a" if value is None else f"{value * 1e6:,.1f} µ{unit}"


def latency(record: Latency) -> str:
    p50, p99 = record.p50_us, record.p99_us
    return "n/a" if p50 is None or p99 is None else f"{p50:.1f} / {p99:.1f} µs"


def energy(record: Energy) -> str:
    joules = record.joules_per_decision
    # The word stands in the same cell as the number: an estimate must not be read as a measurement.
    return "n/a" if joules is None else f"{micro(joules, 'J')}, {record.kind}"


def reading(record: Reading) -> str:
    """A third party's count or level in its own unit; "1" is that of a plain number."""
    if record.value is None:
        return "n/a"
    digits = 0 if abs(record.value) >= 1000 or record.value.is_integer() else 3
    unit = "" if record.unit == "1" else f" {record.unit}"
    return f"{record.value:,.{digits}f}{unit}"


def returned(value: float) -> str:
    """A return: whole from 100 on, with three digits below."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value + 0:.3g}"  # of -0.0 there is no sign to show


def share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.1f}"


def ratio(value: float | None, first: float | None) -> str:
    return "n/a" if value is None or not first else f"{value / first:.2f}"


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 20 min, 4 d 3 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def times(before: float, after: float, gain: str, loss: str) -> str:
    """What has become smaller, or larger, in words: 3.8x smaller, 1.4x slower."""
    return f"{before / after:.1f}x {gain}" if before >= after else f"{after / before:.1f}x {loss}"
