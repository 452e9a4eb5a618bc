"""A process of the local executor: runs cells until there are no more, or its parent is gone."""

from __future__ import annotations

import os
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from compressrl.study import jobs


def main(descriptor: int) -> None:
    """Answer every job that arrives on the connection with its outcome."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _go_first_when_memory_runs_out()
    connection = Connection(descriptor)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(jobs.run(job))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _go_first_when_memory_runs_out() -> None:
    """Let the system kill this process rather than its parent: one cell is lost, not the run."""
    adjustment = Path("/proc/self/oom_score_adj")
    if adjustment.exists():
        adjustment.write_text("500")
