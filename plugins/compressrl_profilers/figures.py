"""From windows to a figure with its interval: net of idle power, uncertainty, shares of CPU time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from compressrl.statistics import CONFIDENCE
from compressrl_profilers.windows import Window

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Figure:
    """A mean over K windows: its samples (K,), and the standard uncertainty that their scatter hides."""

    samples: Floats
    hidden: float = 0.0

    @property
    def mean(self) -> float:
        return float(self.samples.mean())

    @property
    def scatter(self) -> float:
        """Standard error of the mean, s / sqrt(K)."""
        return float(self.samples.std(ddof=1)) / math.sqrt(len(self.samples))

    @property
    def ci95(self) -> tuple[float, float]:
        """t-interval with K - 1 degrees of freedom."""
        t = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(self.samples) - 1))
        half = t * math.hypot(self.scatter, self.hidden)
        return self.mean - half, self.mean + half

    def minus(self, base: Figure) -> Figure:
        """The difference, paired by round."""
        return Figure(self.samples - base.samples, math.hypot(self.hidden, base.hidden))

    @property
    def holds_zero(self) -> bool:
        low, high = self.ci95
        return low <= 0 <= high


@dataclass(frozen=True, eq=False)
class Metered:
    """One side's metered windows over the idle ones, per decision.

    gross: (K,) J, all that the meters counted; net: (K,) J, above the idle power
    seconds: wall time
    phase: J, by not knowing where in its period each counter was read: period / (window x sqrt 6) of gross
    idle_watts_uncertainty: W, standard error of the idle power
    """

    gross: Floats
    net: Floats
    seconds: float
    phase: float
    idle_watts_uncertainty: float

    @classmethod
    def of(cls, side: Sequence[Window], idle: Sequence[Window]) -> Metered:
        idle_power = power(idle)
        gross = np.array([sum(w.joules) / w.decisions for w in side])
        seconds = np.array([w.seconds / w.decisions for w in side])
        return cls(
            gross=gross,
            net=gross - idle_power.mean * seconds,
            seconds=float(seconds.mean()),
            phase=_phase(side),
            idle_watts_uncertainty=idle_power.scatter,
        )

    @property
    def figure(self) -> Figure:
        return Figure(self.net, math.hypot(self.phase, self.idle_watts_uncertainty * self.seconds))

    def minus(self, base: Metered) -> Figure:
        """The difference, paired by round: both were measured over the same idle power."""
        idle = self.idle_watts_uncertainty * (self.seconds - base.seconds)
        return Figure(self.net - base.net, math.hypot(self.phase, base.phase, idle))


def remainder(whole: Figure, parts: Sequence[Figure]) -> tuple[float, tuple[float, float]]:
    """Whole minus its parts, and the 95 % interval of that; they were measured independently.

    Degrees of freedom by Welch and Satterthwaite: sum(u^2)^2 / sum(u^4 / (K - 1)).
    """
    terms = [whole, *parts]
    mean = whole.mean - sum(part.mean for part in parts)
    variance = sum(term.scatter**2 for term in terms)
    spread = sum(term.scatter**4 / (len(term.samples) - 1) for term in terms)
    freedom = variance**2 / spread if spread else math.inf
    t = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
    half = t * math.hypot(math.sqrt(variance), *(term.hidden for term in terms))
    return mean, (mean - half, mean + half)


def power(side: Sequence[Window]) -> Figure:
    """W of all meters together."""
    return Figure(np.array([sum(w.joules) / w.seconds for w in side]))


def cpu_seconds(side: Sequence[Window]) -> Figure:
    """CPU seconds of a decision, all threads."""
    return Figure(np.array([w.cpu_seconds / w.decisions for w in side]))


def decisions(side: Sequence[Window]) -> int:
    return sum(w.decisions for w in side)


def cpu_shares(side: Sequence[Window], idle: Sequence[Window]) -> tuple[float, float] | None:
    """Shares that this process has: of the machine's busy time, and of what is above the idle windows'.

    The first tells whether it was alone. The second shares out the energy above idle: what others used all
    along is in the idle power already. None where the machine's busy time cannot be read.
    """
    busy = [w.busy_seconds for w in side if w.busy_seconds is not None]
    before = [w.busy_seconds for w in idle if w.busy_seconds is not None]
    if not busy or not before:
        return None
    own = sum(w.cpu_seconds for w in side)
    usual = sum(before) / sum(w.seconds for w in idle) * sum(w.seconds for w in side)
    return own / max(own, sum(busy)), own / max(own, sum(busy) - usual)


def _phase(side: Sequence[Window]) -> float:
    total = decisions(side)
    parts = []
    for joules, ticks in zip(
        zip(*(w.joules for w in side), strict=True), zip(*(w.ticks for w in side), strict=True), strict=True
    ):
        period_over_window = len(ticks) / sum(ticks)
        parts.append(sum(joules) / total * period_over_window / math.sqrt(6))
    return math.hypot(*parts)
