"""Published claims, judged by our cells: every statement is a share of policies with a 95 % interval.

A claim of a reference has a `text` and `statements`, each with a `claimed` share: a number, "most" (more than
half) or "few" (less than half). What is counted, always among `methods` (all, where it names none):

{"that", "have": [condition], "among": [condition], "level"}   groups that meet the conditions
{"best": method, "by": "return" | "level"}                     policies whose best version is by this method
{"fails": "above" | "from", "level", "nearest"}                policies no level above (from) this keeps;
                                                               counted where a level up to `nearest` was tried

A condition is {"metric", "below" | "above" | "at_least" | "at_most": ratio to the baseline, "clear": true};
the metric "return" is the retention. Conditions on a metric that was not measured leave the group out.
The unit is the trained policy: its versions are not independent, so it gives one share between 0 and 1, and
the interval is the score interval over policies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from compressrl import statistics
from compressrl.errors import UsageError
from compressrl.records import plain_json
from compressrl.study.grid import Subject
from compressrl.study.report.groups import Group, Interval, Ratio, kinds
from compressrl.study.report.metrics import ENERGY, METRICS
from compressrl.study.report.pooled import Pooled
from compressrl.study.report.reference import Reference

Answer = Literal["holds", "does not hold", "cannot be told yet"]
Condition = Mapping[str, Any]
Statement = Mapping[str, Any]
WIDEST = 0.4  # a share of a wider interval is told by nobody: some 20 policies are needed
HALF = 0.5


@dataclass(frozen=True)
class Count:
    """One statement and our share of policies: None where none could be counted.

    energy: how the energy figures in it came about, such as "estimated"; "" where it needs none
    """

    says: str
    claimed: float | Literal["most", "few"]
    share: float | None
    ci95: Interval
    policies: int
    answer: Answer
    energy: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim: it holds when all its statements do, and does not when one does not."""

    claim: str
    answer: Answer
    counts: tuple[Count, ...]

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = plain_json(asdict(self))
        return plain


def judge(pooled: Pooled, reference: Reference) -> list[Verdict]:
    """Raise UsageError for a statement that the module does not describe."""
    verdicts = []
    for claim in reference.claims:
        try:
            counts = tuple(_count(one, pooled, reference.kept_share) for one in claim["statements"])
            verdicts.append(Verdict(claim["text"], _together([count.answer for count in counts]), counts))
        except (KeyError, TypeError) as error:
            raise UsageError(
                f"A claim of the reference lacks {error} or has it wrong: {dict(claim)}."
            ) from error
    return verdicts


def best(groups: Iterable[Group], by: str, kept_share: float) -> Group | None:
    """The best version of one policy: by return, or of the highest level that keeps enough of the return.

    Of several with the same level, the one of the higher return. None where no group qualifies.
    """
    if by == "level":
        alive = [group for group in groups if group.method.level is not None and survives(group, kept_share)]
        return max(alive, key=lambda group: (group.method.level, _return(group)), default=None)
    return max((g for g in groups if g.kept.value is not None), key=_return, default=None)


def survives(group: Group, kept_share: float) -> bool:
    """It keeps at least this share of the baseline's return (mean over all episodes)."""
    return group.kept.value is not None and group.kept.value >= kept_share


def _return(group: Group) -> float:
    return group.mean_return("compressed").value or 0.0


def _count(statement: Statement, pooled: Pooled, kept_share: float) -> Count:
    names = statement.get("methods")
    groups = [group for group in pooled.compressed if not names or group.method.name in names]
    by_policy: dict[Subject, list[Group]] = defaultdict(list)
    for group in groups:
        by_policy[group.subject].append(group)
    share_of, says = _rule(statement, kept_share)
    shares = [share for rows in by_policy.values() if (share := share_of(rows)) is not None]
    interval = statistics.score_interval(np.asarray(shares)) if shares else None
    share = float(np.mean(shares)) if shares else None
    answer = _answer(statement["claimed"], share, interval)
    energy = ", ".join(kinds(groups, ENERGY)) if "energy" in str(statement) else ""
    return Count(says, statement["claimed"], share, interval, len(shares), answer, energy)


def _rule(statement: Statement, kept_share: float) -> tuple[Callable[[list[Group]], float | None], str]:
    """What gives a policy its share (None: it cannot be counted), and the statement in words."""
    if "have" in statement:
        return lambda groups: _share(groups, statement), f"{statement['of']} that {statement['that']}"
    if "best" in statement:
        criterion = {"return": "the highest return", "level": "the best trade"}[statement["by"]]
        words = (
            f"policies for which {statement['best']} gives {criterion} of {', '.join(statement['methods'])}"
        )
        return lambda groups: _is_best(groups, statement, kept_share), words
    if "fails" in statement:
        more = {"above": "more than ", "from": ""}[statement["fails"]]
        names = " or ".join(statement["methods"])
        words = f"policies that do not survive {more}{statement['level']:.0%} by {names}"
        return lambda groups: _fails(groups, statement, kept_share), words
    raise UsageError(f"A statement of the reference counts nothing that is known: {dict(statement)}.")


def _share(groups: list[Group], statement: Statement) -> float | None:
    """Share of the groups that meet the conditions, of those that could be judged."""
    level = statement.get("level")
    chosen = [group for group in groups if level is None or group.method.level == level]
    among = [group for group in chosen if all(_meets(group, c) for c in statement.get("among", ()))]
    judged = [[_meets(group, condition) for condition in statement["have"]] for group in among]
    known = [all(answers) for answers in judged if None not in answers]
    return sum(known) / len(known) if known else None


def _meets(group: Group, condition: Condition) -> bool | None:
    """None where the metric was not measured."""
    ratio = _ratio(group, condition["metric"])
    if ratio.value is None or (condition.get("clear") and ratio.clear is None):
        return None
    if condition.get("clear") and not ratio.clear:
        return False
    return bool(
        ratio.value < condition.get("below", np.inf)
        and ratio.value > condition.get("above", -np.inf)
        and condition.get("at_least", -np.inf) <= ratio.value <= condition.get("at_most", np.inf)
    )


def _ratio(group: Group, metric: str) -> Ratio:
    if metric == "return":
        return Ratio(group.kept.value, group.kept.ci95, group.kept.ci95 is not None)
    return group.ratio({found.key: found for found in METRICS}[metric])


def _is_best(groups: list[Group], statement: Statement, kept_share: float) -> float | None:
    """1 or 0; None unless all the methods that compete were measured, and one of them qualifies."""
    winner = best(groups, statement["by"], kept_share)
    if winner is None or set(statement["methods"]) - {group.method.name for group in groups}:
        return None
    return float(winner.method.name == statement["best"])


def _fails(groups: list[Group], statement: Statement, kept_share: float) -> float | None:
    """1 where no version of the asked levels keeps enough; None where none near the limit was measured."""
    limit, strictly = statement["level"], statement["fails"] == "above"
    known = [(g.method.level, g) for g in groups if g.method.level is not None and g.kept.value is not None]
    asked = [(level, group) for level, group in known if (level > limit if strictly else level >= limit)]
    if not any(level <= statement["nearest"] for level, _ in asked):
        return None  # failing far above the limit says nothing about failing just above it
    return float(not any(survives(group, kept_share) for _, group in asked))


def _answer(claimed: float | str, share: float | None, interval: Interval) -> Answer:
    if share is None or interval is None:
        return "cannot be told yet"
    low, high = interval
    if isinstance(claimed, str):
        bears_out, refutes = (low > HALF, high < HALF) if claimed == "most" else (high < HALF, low > HALF)
    else:
        has_it = low <= claimed <= high
        bears_out, refutes = has_it and high - low <= WIDEST, not has_it
    return "holds" if bears_out else "does not hold" if refutes else "cannot be told yet"


def _together(answers: list[Answer]) -> Answer:
    if "does not hold" in answers:
        return "does not hold"
    return "cannot be told yet" if not answers or "cannot be told yet" in answers else "holds"
