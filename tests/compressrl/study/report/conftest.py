"""Outcomes of cells that were never run, in the format of those that were."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from compressrl import statistics
from compressrl.records import (
    Energy,
    EpisodeRecords,
    EvaluationReport,
    EvaluationRequest,
    Latency,
    Memory,
    ModelSize,
    Side,
)
from compressrl.study.grid import Cell, Study, Subject
from compressrl.study.store import Outcome

Make = Callable[..., Outcome]
MIB = 1 << 20


def side(
    returns: Sequence[float],
    *,
    size: int = 1000,
    p50: float | None = 10.0,
    joules: float | None = 4e-5,
    kind: str = "estimated",
    below_resolution: bool | None = None,
    peak: int | None = 60 * MIB,
    ranges: tuple[int, int] | None = None,
    measured: int = 5,
) -> Side:
    episodes = EpisodeRecords(
        tuple(range(len(returns))), tuple(returns), (1000,) * len(returns), (0.1,) * len(returns)
    )
    unreadable = peak is None
    return Side(
        policy_provenance=("made up",),
        runtime="onnx",
        episodes=episodes,
        iqm_return=statistics.iqm(returns),
        iqm_ci95=None,
        model=ModelSize(size // 4, size, size, size, 32, 1.0),
        latency=Latency(p50, p50, p50, 100) if p50 is not None else Latency(reason="no clock"),
        energy=Energy(joules, None, kind, "a test", "no meter", 1e-5, below_resolution),
        memory=Memory(
            None if unreadable else 20 * MIB,
            None if unreadable else 2 * MIB,
            None if unreadable else MIB,
            peak,
            "no smaps" if unreadable else "",
            {} if ranges is None else {"repeats": measured, "ranges": {"peak": list(ranges)}},
        ),
    )


@pytest.fixture(scope="session")
def done() -> Make:
    """`done("sac", "Ant-v5", "ptdq", [100, 110], [90, 95], repeat=1, compressed={"p50": 9.0})`."""

    def make(
        algorithm: str,
        env_id: str,
        compressor: str,
        baseline_returns: Sequence[float] = (100.0, 110.0, 120.0),
        compressed_returns: Sequence[float] | None = None,
        *,
        repeat: int = 0,
        runtime: str = "onnx",
        baseline: dict[str, object] | None = None,
        compressed: dict[str, object] | None = None,
        spent: tuple[float, float] = (1.0, 200.0),
    ) -> Outcome:
        after = baseline_returns if compressed_returns is None else compressed_returns
        report = EvaluationReport(
            request=EvaluationRequest(algorithm, env_id, compressor, runtime, len(after), repeat),
            baseline=side(baseline_returns, **(baseline or {})),
            compressed=side(after, **(compressed or {})),
            retention=statistics.retention(baseline_returns, after, resamples=50),
            overhead_ns_per_step=1000.0,
            spent=dict(zip(("seconds", "environment_steps"), spent, strict=True)),
            host={"cpu": "a CPU", "cores": 2, "compressrl": "0.1.0"},
        )
        cell = Cell(algorithm, env_id, compressor, runtime, repeat, len(after))
        return Outcome(cell, "0" * 16, "done", report=report.to_json())

    return make


@pytest.fixture(scope="session")
def undone() -> Make:
    """`undone("sac", "Ant-v5", "ptdq", "failed", "why")`."""

    def make(algorithm: str, env_id: str, compressor: str, status: str, error: str) -> Outcome:
        return Outcome(Cell(algorithm, env_id, compressor, "onnx", 0, 3), "0" * 16, status, error)

    return make


@pytest.fixture(scope="session")
def study_of() -> Callable[..., Study]:
    """The study whose grid holds all of these outcomes; it may hold more cells."""

    def make(*outcomes: Outcome, name: str = "trial") -> Study:
        cells = [outcome.cell for outcome in outcomes]
        return Study(
            name=name,
            subjects=tuple(dict.fromkeys(Subject(cell.algorithm, cell.env_id) for cell in cells)),
            compressors=tuple(dict.fromkeys(["", *(cell.compressor for cell in cells)])),
            runtimes=tuple(dict.fromkeys(cell.runtime for cell in cells)) or ("onnx",),
            repeats=1 + max((cell.repeat for cell in cells), default=0),
            episodes=3,
        )

    return make
