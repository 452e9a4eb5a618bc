"""Finished cells of all studies on this machine, by key: none is run twice."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

from compressrl import files
from compressrl.errors import CompressrlError
from compressrl.study.jobs import Job
from compressrl.study.store import Outcome, Store


def take(store: Store, job: Job) -> Outcome | None:
    """Copy a cell that another study has finished into this one; None where there is none."""
    outcome = peek(job)
    if outcome is not None:
        store.write(outcome)
    return outcome


def peek(job: Job) -> Outcome | None:
    """A cell that another study has finished; None where there is none that can be read.

    That study may have named the same policy otherwise, by its file or by algorithm and environment.
    """
    try:
        return replace(Outcome.from_json(json.loads(_path(job.key).read_text())), cell=job.cell)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(store: Store, outcome: Outcome) -> None:
    """Let other studies have a cell that is done. A cache that cannot be written is no reason to stop."""
    if outcome.status == "done":
        with contextlib.suppress(CompressrlError):
            files.make_folder(_path(outcome.key).parent)
            files.write_json_atomic(_path(outcome.key), outcome.to_json())


def _path(key: str) -> Path:
    return files.cache_folder("study") / "cells" / f"{key}.json"
