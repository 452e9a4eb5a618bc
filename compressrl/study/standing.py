"""Where a study stands, as one JSON object."""

from __future__ import annotations

from typing import Any

from compressrl.study.estimates import Estimates
from compressrl.study.grid import Study
from compressrl.study.planning import Plan
from compressrl.study.running import Tally


def describe(study: Study, plan: Plan, tally: Tally, workers: int) -> dict[str, Any]:
    """What `compressrl study run|status --json` print.

    {name, cells, done, failed, missing, left, reused, workers, seconds_left, estimated_from: {finished_cells,
    table, nothing}, failures: [{cell, error}], missing_policies: [{algorithm, env_id, cells, command}]}, in
    numbers of cells; table: the study's own; seconds_left is None where nothing is known of a cell.
    """
    seconds, origin = _time_left(study, tally)
    return {
        "name": study.name,
        "cells": len(plan.jobs) + len(plan.missing),
        "done": tally.done,
        "failed": tally.failed,
        "missing": len(plan.missing),
        "left": len(tally.left),
        "reused": tally.reused,
        "workers": workers,
        "seconds_left": None if seconds is None else seconds / workers,
        "estimated_from": origin,
        "failures": [
            {"cell": o.cell.label, "error": o.error} for o in tally.outcomes.values() if o.status == "failed"
        ],
        "missing_policies": _missing_policies(plan),
    }


def _time_left(study: Study, tally: Tally) -> tuple[float | None, dict[str, int]]:
    estimates = Estimates(study, tally.outcomes.values())
    origin = {"finished_cells": 0, "table": 0, "nothing": 0}
    total = 0.0
    for job in tally.left.values():
        seconds = estimates.seconds(job.cell)
        total += seconds or 0.0
        known = "finished_cells" if estimates.measured(job.cell) else "table"
        origin["nothing" if seconds is None else known] += 1
    return (None if origin["nothing"] else total), origin


def _missing_policies(plan: Plan) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for outcome in plan.missing:
        cell = outcome.cell
        fresh = {"algorithm": cell.algorithm, "env_id": cell.env_id, "cells": 0, "command": outcome.error}
        found.setdefault(outcome.error, fresh)["cells"] += 1
    return list(found.values())
