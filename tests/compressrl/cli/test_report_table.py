"""What a person reads after an evaluation."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from compressrl import statistics
from compressrl.cli import report_table, units
from compressrl.records import (
    ControlStep,
    Energy,
    EpisodeRecords,
    EvaluationReport,
    EvaluationRequest,
    Latency,
    Memory,
    ModelSize,
    Reading,
    Side,
)


def side(returns: tuple[float, ...], size: int, p50_us: float | None) -> Side:
    count = len(returns)
    return Side(
        policy_provenance=("made",),
        runtime="onnx",
        episodes=EpisodeRecords(tuple(range(count)), returns, (1000,) * count, (0.1,) * count),
        iqm_return=statistics.iqm(returns),
        iqm_ci95=None,
        model=ModelSize(100, size, size, size, 8, 1.0),
        latency=Latency(p50_us, p50_us, p50_us, 10) if p50_us else Latency(reason="no clock"),
        energy=Energy(5e-5, (1e-5, 2e-4), "estimated", "CPU time", "no meter here", 1.2e-5),
        memory=Memory(20 << 20, 2048, None, 64 << 20),
        control_step=ControlStep(2.0 * p50_us, 60.0, 20.0, 1000) if p50_us else ControlStep(),
    )


def report(base: tuple[float, ...], comp: tuple[float, ...], p50_us: float | None = 5.0) -> EvaluationReport:
    return EvaluationReport(
        request=EvaluationRequest("sac", "Tiny-v0", "qat", "onnx"),
        baseline=side(base, 4000, 10.0),
        compressed=side(comp, 1000, p50_us),
        retention=statistics.retention(base, comp, random_return=1.0),
        overhead_ns_per_step=900.0,
        spent={},
        host={},
    )


STEADY = (100.0, 101.0, 99.0, 100.5, 99.5, 100.2, 99.8, 100.0)


@pytest.mark.parametrize(
    ("compressed", "words"),
    [
        (STEADY, ("still does its job", "less than 5%", "4.0x smaller", "2.0x faster")),
        (tuple(0.5 * r for r in STEADY), ("do not deploy it", "more than 5%")),
        ((100, 60, 99, 130, 70, 110, 80, 120), ("open", "8 episodes cannot tell", "--episodes")),
    ],
)
def test_verdict(compressed: tuple[float, ...], words: tuple[str, ...]) -> None:
    verdict = report_table.verdict(report(STEADY, compressed))
    assert all(word in verdict for word in words)


def test_verdict_says_what_is_worse() -> None:
    slower = report(STEADY, STEADY, p50_us=15.0)
    assert "1.5x slower" in report_table.verdict(slower)


def test_verdict_on_too_few_episodes_and_on_one_that_broke_down() -> None:
    assert "one episode" in report_table.verdict(report(STEADY[:1], STEADY[:1]))
    few = report(STEADY[:5], STEADY[:5])
    assert "open; so few episodes that are all the same" in report_table.verdict(few)
    assert report_table.retention_line(few).endswith("in 5 pairs of episodes")
    assert "not a number" in report_table.verdict(report(STEADY, (*STEADY[:-1], float("nan"))))


def test_a_baseline_that_does_nothing_has_no_retention() -> None:
    useless = report((0.5, 0.4, 0.6), (0.5, 0.4, 0.6))
    useless = replace(useless, retention=statistics.retention((-5.0, -5.0), (-5.0, -5.0), random_return=1.0))
    assert "no better than random" in report_table.verdict(useless)
    assert report_table.retention_line(useless) == "Retention: n/a"


def test_table_shows_the_four_metrics_and_says_what_is_not_measured() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=120)
    report_table.show(report(STEADY, STEADY, p50_us=None), Path("runs/x"), console)
    text = stream.getvalue()
    for words in ("return", "model size", "memory: library", "inference p50 / p99", "energy a decision"):
        assert words in text
    assert "50.0 µJ, estimated" in text
    assert "Energy is estimated: no meter here" in text
    assert "Latency: no clock" in text
    assert "n/a" in text
    assert "Retention: 100.0% of the return, 95 % interval 100.0% to 100.0%" in text
    assert "runs/x" in text


def test_a_control_step_is_shown_by_its_parts_with_their_shares() -> None:
    stream = io.StringIO()
    report_table.show(report(STEADY, STEADY), Path("runs/x"), Console(file=stream, width=120))
    rows = [line.split("│")[1:5] for line in stream.getvalue().splitlines() if "step: " in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["step: policy", "20.0 µs, 20%", "10.0 µs, 11%", "x 0.50"],
        ["step: environment", "60.0 µs, 60%", "60.0 µs, 67%", "x 1.00"],
        ["step: instrumentation", "20.0 µs, 20%", "20.0 µs, 22%", "x 1.00"],
    ]


def test_what_third_parties_count_is_shown_in_their_units_with_the_change() -> None:
    def counting(side: Side, *values: float | None) -> Side:
        named = (("preemptions", "preemptions", "1"), ("wall-plug", "energy", "[j]"), ("probe", "heat", "K"))
        readings = (
            Reading(*name, value, "" if value is not None else "no [probe] here; plug one in")
            for name, value in zip(named, values, strict=True)
        )
        return replace(side, readings=tuple(readings))

    plain = report(STEADY, STEADY)
    base, comp = counting(plain.baseline, 4200.0, 12.5, None), counting(plain.compressed, 21.0, 25.0, None)
    stream = io.StringIO()
    shown = replace(plain, baseline=base, compressed=comp)
    report_table.show(shown, Path("runs/x"), Console(file=stream, width=120))
    rows = [[cell.strip() for cell in line.split("│")[1:5]] for line in stream.getvalue().splitlines()]
    assert [row for row in rows if row][-3:] == [
        ["preemptions", "4,200", "21", "x 0.01"],
        ["wall-plug: energy", "12.500 [j]", "25 [j]", "x 2.00"],
        ["probe: heat", "n/a", "n/a", ""],
    ]
    assert "probe: no [probe] here; plug one in" in stream.getvalue()


def test_a_retention_without_a_lower_end_says_so() -> None:
    base = (-100.0, 100.0, 90.0) * 4
    told = report_table.retention_line(report(base, base[::-1]))
    assert "There is no lower end" in told
    assert "inf" not in told
    assert "nobody knows to " in str(report(base, base[::-1]).retention)


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0, "0"), (-0.0, "0"), (0.4217, "0.422"), (-3.1416, "-3.14"), (99.96, "100"), (11022.4, "11,022")],
)
def test_small_returns_keep_their_digits(value: float, told: str) -> None:
    assert units.returned(value) == told
