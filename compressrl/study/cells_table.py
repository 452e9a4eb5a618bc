"""The finished cells of a study as a table in a file, one row a cell: Parquet or CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compressrl import table_files
from compressrl.study.store import Outcome

CELL: dict[str, type] = {
    "algorithm": str,
    "env_id": str,
    "policy": str,
    "compressor": str,
    "runtime": str,
    "repeat": int,
    "episodes": int,
}
OUTCOME: dict[str, type] = {
    "key": str,
    "status": str,
    "error": str,
    "seconds": float,
    "finished_at": str,
    "policy_sha256": str,
    "busy_neighbours": float,
}
# Of each side: column, and where it stands in the report.
SIDE: dict[str, tuple[type, str]] = {
    "return_mean": (float, "return.mean"),
    "return_std": (float, "return.std"),
    "return_iqm": (float, "return.iqm"),
    "action_change_per_step": (float, "return.action_change_per_step"),
    "parameters": (int, "model.parameters"),
    "size_bytes": (int, "model.size_bytes"),
    "serialized_bytes": (int, "model.serialized_bytes"),
    "bits": (float, "model.bits"),
    "nonzero_fraction": (float, "model.nonzero_fraction"),
    "latency_p50_us": (float, "latency_us.p50"),
    "latency_p99_us": (float, "latency_us.p99"),
    "joules_per_decision": (float, "energy.joules_per_decision"),
    "energy_kind": (str, "energy.kind"),
    "cpu_seconds_per_decision": (float, "energy.cpu_seconds_per_decision"),
    "memory_library_bytes": (int, "memory_bytes.library"),
    "memory_model_bytes": (int, "memory_bytes.model"),
    "memory_runtime_bytes": (int, "memory_bytes.runtime"),
    "memory_peak_bytes": (int, "memory_bytes.peak"),
}
REPORT: dict[str, tuple[type, str]] = {
    "retention": (float, "retention.value"),
    "retention_low": (float, "retention.ci95.0"),
    "retention_high": (float, "retention.ci95.1"),
    "retention_above_random": (float, "retention.above_random"),
    "non_inferior": (bool, "retention.non_inferior"),
    "compression_environment_steps": (float, "spent.environment_steps"),
    "compression_seconds": (float, "spent.seconds"),
    **{
        f"{side}_{name}": (kind, f"{side}.{place}")
        for side in ("baseline", "compressed")
        for name, (kind, place) in SIDE.items()
    },
}
COLUMNS = CELL | OUTCOME | {name: kind for name, (kind, _) in REPORT.items()}


def check(path: Path) -> None:
    """Raise UsageError when this file could not be written: suffix, folder, missing library."""
    table_files.check(path, "--to")


def write(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write a row for every outcome; what a failed cell has not is empty."""
    table_files.write(path, COLUMNS, _rows(outcomes))


def _rows(outcomes: Iterable[Outcome]) -> Iterator[dict[str, Any]]:
    for outcome in outcomes:
        row = {name: getattr(outcome.cell, name) for name in CELL}
        row |= {name: getattr(outcome, name) for name in OUTCOME}
        yield row | {name: _at(outcome.report, place) for name, (_, place) in REPORT.items()}


def _at(report: Any, place: str) -> Any:
    """What stands at `retention.ci95.0`; None where the way there ends early."""
    for word in place.split("."):
        if isinstance(report, Mapping):
            report = report.get(word)
        elif isinstance(report, list) and word.isdigit():
            report = report[int(word)]
        else:
            return None
    return report
