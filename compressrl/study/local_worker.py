"""A process of the local executor: runs cells until there are no more, or its parent is gone."""

from __future__ import annotations

import os
import sys
import threading
from multiprocessing.connection import Connection

from compressrl.study import jobs


def main(descriptor: int, core: int) -> None:
    """Answer every job that arrives on the connection with its outcome."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    jobs.pin(core)
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
