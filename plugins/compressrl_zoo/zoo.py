"""Policy files beside this module, and an index that says how each was made.

index.json                                  a list of training records (see compressrl.runs)
policies/<algorithm>_<environment>_seed<n>.policy
policies/<algorithm>_<environment>_seed<n>.csv     its learning curve
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PUBLIC = ("algorithm", "env_id", "seed", "steps", "return_mean", "return_std", "episodes", "path")


def read_index(folder: Path = HERE) -> list[dict[str, Any]]:
    """The records as they stand in the file; [] where there is none yet."""
    path = folder / "index.json"
    records: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return records


class Zoo:
    """The policies of this package (`compressrl.interfaces.PolicySource`)."""

    def list(self) -> Sequence[Mapping[str, Any]]:
        """One mapping a policy, ordered by environment, algorithm and seed; `path` is absolute."""
        rows = [{**record, "path": str(HERE / record["path"])} for record in read_index()]
        rows.sort(key=lambda r: (r["env_id"], r["algorithm"], r["seed"]))
        return [{key: row[key] for key in PUBLIC} for row in rows]

    def find(self, algorithm: str, env_id: str) -> Path | None:
        """The policy of the best mean return among the seeds of this cell."""
        cell = [r for r in read_index() if (r["algorithm"], r["env_id"]) == (algorithm, env_id)]
        return HERE / max(cell, key=lambda r: r["return_mean"])["path"] if cell else None
