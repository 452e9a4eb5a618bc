"""The episodes of an evaluation as a table in a file, one row an episode and side: Parquet or CSV."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compressrl import files
from compressrl.errors import UsageError
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
INSTALL = "pip install 'compressrl[parquet]'"


def check(path: Path) -> None:
    """Raise UsageError when this file could not be written: suffix, folder, missing library."""
    files.check_target(path, _WRITERS, "--episodes-file")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(f"{path}: Parquet needs pyarrow. Install it with: {INSTALL}, or write a .csv file.")


def write(path: Path, report: EvaluationReport) -> None:
    """Write all episodes, baseline first; in place of an older file only when all of it is written."""
    rows = [*_rows(report, "baseline", report.baseline), *_rows(report, "compressed", report.compressed)]
    with files.atomic(path) as temporary:
        _WRITERS[path.suffix](temporary, rows)


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


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet}
