"""Tables in files: Parquet or CSV, by the file's suffix."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compressrl import files
from compressrl.errors import UsageError

INSTALL = "pip install 'compressrl[parquet]'"
Columns = Mapping[str, type]  # bool, int, float or str; every value may be None
Rows = Iterable[Mapping[str, Any]]


def check(path: Path, option: str) -> None:
    """Raise UsageError when this file could not be written: suffix, folder, missing library."""
    files.check_target(path, _WRITERS, option)
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(f"{path}: Parquet needs pyarrow. Install it with: {INSTALL}, or write a .csv file.")


def write(path: Path, columns: Columns, rows: Rows) -> None:
    """Write the rows; in place of an older file only when all of it is written."""
    with files.atomic(path) as temporary:
        _WRITERS[path.suffix](temporary, columns, rows)


def _write_csv(path: Path, columns: Columns, rows: Rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, columns: Columns, rows: Rows) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema), path)


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet}
