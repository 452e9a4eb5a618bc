"""One core for one cell: what shares a core with it would show in its times."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from compressrl import files

NAME = "cores.lock"


@contextmanager
def pinned() -> Iterator[int | None]:
    """Keep this process and its children on one core that no other cell on this machine has been given.

    Gives the core; None where all are taken, or this system does not pin. As with cells (`claims`), the end
    of a process frees its core.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    allowed = os.sched_getaffinity(0)
    path = files.make_folder(files.cache_folder("study")) / NAME
    with path.open("ab") as claims:
        core = next((core for core in sorted(allowed) if _take(claims.fileno(), core)), None)
        if core is not None:
            os.sched_setaffinity(0, {core})
        try:
            yield core
        finally:
            os.sched_setaffinity(0, allowed)


def _take(descriptor: int, core: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, core)
    except OSError:
        return False
    return True
