"""The cells of a study, pooled over their repeats: one trained policy under one method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from compressrl import statistics
from compressrl.records import Retention
from compressrl.statistics import Floats, mean_interval
from compressrl.study.grid import Subject
from compressrl.study.report.methods import Method
from compressrl.study.report.metrics import METRICS, Metric

Report = Mapping[str, Any]
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval (None where there is a single run), or None with the reason."""

    value: float | None
    ci95: Interval = None
    reason: str = ""


@dataclass(frozen=True)
class Ratio:
    """Compressed over baseline of one metric: the geometric mean over repeats.

    ci95:  t-interval of its logarithm over repeats; None for a single repeat
    clear: the difference is above the noise: the interval leaves out 1 (for a single repeat, what the report
           itself says of it, and None where that says nothing), and the policy differs less from itself
    kind:  how an energy figure came about, "" for the rest: an estimate must not be read as a measurement
    """

    value: float | None
    ci95: Interval = None
    clear: bool | None = None
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Group:
    """All finished repeats of one policy under one method; `reports` is not empty.

    itself: the policy's comparison with itself in the same runtime, where that is finished: the noise
    """

    subject: Subject
    method: Method
    reports: tuple[Report, ...]
    itself: Group | None = None

    @property
    def policy(self) -> str:
        return policy_name(self.subject)

    @property
    def repeats(self) -> int:
        return len(self.reports)

    def returns(self, side: str) -> list[list[float]]:
        """(repeats, episodes); NaN where a return was not a number."""
        return [
            [math.nan if value is None else value for value in report[side]["return"]["per_episode"]]
            for report in self.reports
        ]

    @cached_property
    def kept(self) -> Retention:
        """Retention, paired by repeat and episode seed; repeats are resampled with all their episodes."""
        first = self.reports[0]["retention"]
        return statistics.retention(
            self.returns("baseline"),
            self.returns("compressed"),
            random_return=first["zero_return"] or None,
            margin=first["margin"],
        )

    def mean_return(self, side: str) -> Estimate:
        """Over repeats where there are several, else over episodes."""
        returns = self.returns(side)
        values = [fmean(row) for row in returns] if len(returns) > 1 else returns[0]
        if not all(map(math.isfinite, values)):
            return Estimate(None, reason="a return is not a number")
        return Estimate(fmean(values), mean_interval(values))

    def level(self, metric: Metric, side: str) -> Estimate:
        """The metric itself, in its stored unit: mean over repeats."""
        values = [metric.read(report[side]) for report in self.reports]
        found = [value for value in values if value is not None]
        if len(found) < len(values):
            return Estimate(
                None, reason=metric.reason(self.reports[values.index(None)][side]) or "not measured"
            )
        return Estimate(fmean(found), mean_interval(found))

    def ratio(self, metric: Metric) -> Ratio:
        """Compressed over baseline."""
        return self._ratios[metric.key]

    @cached_property
    def _ratios(self) -> Mapping[str, Ratio]:
        """Every claim and figure asks for them again."""
        return {metric.key: self._ratio(metric) for metric in METRICS}

    def _ratio(self, metric: Metric) -> Ratio:
        for side in ("baseline", "compressed"):
            level = self.level(metric, side)
            if not level.value:
                return Ratio(None, reason=level.reason or "zero")
        logs = [
            math.log(self._read(r, metric, "compressed") / self._read(r, metric, "baseline"))
            for r in self.reports
        ]
        ends = mean_interval(logs)
        clear = _clear(metric, self.reports[0]) if ends is None else not ends[0] <= 0 <= ends[1]
        value, interval = (
            math.exp(fmean(logs)),
            None if ends is None else (math.exp(ends[0]), math.exp(ends[1])),
        )
        kind = self._energy_kind if metric.key == "energy" else ""
        return Ratio(value, interval, clear and not self._is_noise(metric, value), kind)

    def _is_noise(self, metric: Metric, value: float) -> bool:
        """The policy differs as much from itself."""
        noise = self.itself.ratio(metric).value if self.itself else None
        return noise is not None and abs(math.log(value)) <= abs(math.log(noise))

    @property
    def _energy_kind(self) -> str:
        return ", ".join(sorted({str(report["compressed"]["energy"]["kind"]) for report in self.reports}))

    @staticmethod
    def _read(report: Report, metric: Metric, side: str) -> float:
        return metric.read(report[side]) or math.nan

    def pairs(self) -> Floats | None:
        """(repeats, episodes, 2) returns of both sides; None where retention cannot be pooled.

        That is where the baseline's IQM is not positive, over which it is pooled: over its mean, its own
        falls would count in favour of the compressed.
        """
        pairs = np.stack([self.returns("baseline"), self.returns("compressed")], axis=-1)
        return pairs if np.isfinite(pairs).all() and statistics.iqm(pairs[..., 0].ravel()) > 0 else None


def _clear(metric: Metric, report: Report) -> bool | None:
    """What a single report says of the difference: energy by its windows, memory by its repeats."""
    base, comp = report["baseline"], report["compressed"]
    if metric.key == "size":
        return bool(metric.read(base) != metric.read(comp))
    if metric.key == "energy":
        below = comp["energy"]["below_resolution"]
        return None if below is None else not below
    if metric.key == "memory":
        details = [side["memory_bytes"]["details"] for side in (base, comp)]
        ranges = [found.get("ranges") for found in details]
        if all(ranges) and all(found["repeats"] > 1 for found in details):
            (low, high), (other_low, other_high) = (found["peak"] for found in ranges)
            return bool(high < other_low or other_high < low)
    return None


def kinds(groups: Sequence[Group], metric: Metric) -> list[str]:
    """Kinds of the measured figures ("" for all but energy), each for a panel of its own.

    An estimated figure never stands beside a measured one.
    """
    return list(dict.fromkeys(ratio.kind for g in groups if (ratio := g.ratio(metric)).value is not None))


def of_kind(groups: Sequence[Group], metric: Metric, kind: str) -> list[tuple[Group, Ratio, float]]:
    """Groups whose ratio is known and of this kind, with the ratio and its value."""
    found = ((group, group.ratio(metric)) for group in groups)
    return [(g, r, r.value) for g, r in found if r.value is not None and r.kind == kind]


def median_ratio(groups: Sequence[Group], metric: Metric, kind: str) -> float | None:
    """Median over policies; None where none was measured."""
    values = [value for _, _, value in of_kind(groups, metric, kind)]
    return median(values) if values else None


def policy_name(subject: Subject) -> str:
    """`sac HalfCheetah-v5`, with the file's name where the study names a file."""
    file = f"({Path(subject.policy).stem})" if subject.policy else ""
    return " ".join(filter(None, (subject.algorithm, subject.env_id, file)))


def algorithm_name(subject: Subject) -> str:
    """What stands for the policy beside its environment."""
    file = Path(subject.policy).stem if subject.policy else ""
    return (
        file
        if file == subject.algorithm
        else " ".join(filter(None, (subject.algorithm, file and f"({file})")))
    )
