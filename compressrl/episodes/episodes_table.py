"""The episodes of an evaluation as a table in a file, one row an episode and side: Parquet or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compressrl import table_files
from compressrl.records import EvaluationReport, Side

# As in `EpisodeRecords` and `EpisodeCost`; empty (null) where it was not read.
COLUMNS: dict[str, type] = {
    "side": str,
    "algorithm": str,
    "env_id": str,
    "compressor": str,
    "runtime": str,
    "episode_seed": int,
    "return": float,
    "length_steps": int,
    "action_change_per_step": float,
    "environment_seconds": float,
    "policy_seconds": float,
    "instrumentation_seconds": float,
    "cpu_seconds": float,
    "energy_joules": float,
    "memory_peak_bytes": float,
}


def check(path: Path) -> None:
    """Raise UsageError when this file could not be written: suffix, folder, missing library."""
    table_files.check(path, "--episodes-file")


def write(path: Path, report: EvaluationReport) -> None:
    """Write all episodes, baseline first."""
    rows = [*_rows(report, "baseline", report.baseline), *_rows(report, "compressed", report.compressed)]
    table_files.write(path, COLUMNS, rows)


def _rows(report: EvaluationReport, label: str, side: Side) -> Iterator[dict[str, Any]]:
    episodes, request = side.episodes, report.request
    for index, seed in enumerate(episodes.seeds):
        row: dict[str, Any] = {
            "side": label,
            "algorithm": request.algorithm,
            "env_id": request.env_id,
            "compressor": request.compressor if label == "compressed" else "",
            "runtime": side.runtime,
            "episode_seed": seed,
            "return": episodes.returns[index],
            "length_steps": episodes.lengths[index],
            "action_change_per_step": episodes.action_changes[index],
        }
        cost = episodes.costs[index] if episodes.costs else None
        yield row | {name: getattr(cost, name, None) for name in COLUMNS if name not in row}
