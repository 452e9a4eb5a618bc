"""The metrics of one side of an evaluation report, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20
Side = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """A quantity of which less is better.

    key:    its name in the data
    title:  its name on axes and in headings
    unit:   of `show`n values
    scale:  what the stored value is divided by to be in `unit`
    read:   the stored value; None where it was not measured
    reason: why it was not
    """

    key: str
    title: str
    unit: str
    scale: float
    read: Callable[[Side], float | None]
    reason: Callable[[Side], str]

    def show(self, value: float | None) -> str:
        return "n/a" if value is None else f"{value / self.scale:,.4g} {self.unit}"


def _latency(side: Side) -> float | None:
    found: float | None = side["latency_us"]["p50"]
    return found


def _energy(side: Side) -> float | None:
    found: float | None = side["energy"]["joules_per_decision"]
    return found


def _memory(side: Side) -> float | None:
    found: float | None = side["memory_bytes"]["peak"]
    return found


def _size(side: Side) -> float | None:
    return float(side["model"]["size_bytes"])


SIZE = Metric("size", "packed weights", "KiB", 1024, _size, lambda side: "")
MEMORY = Metric(
    "memory",
    "peak memory of the process",
    "MiB",
    MIB,
    _memory,
    lambda side: str(side["memory_bytes"]["reason"]),
)
LATENCY = Metric(
    "latency", "inference time (p50)", "µs", 1, _latency, lambda side: str(side["latency_us"]["reason"])
)
ENERGY = Metric(
    "energy", "energy a decision", "µJ", 1e-6, _energy, lambda side: str(side["energy"]["reason"])
)
METRICS = (SIZE, MEMORY, LATENCY, ENERGY)
