"""One core for one cell: what shares a core with it would show in its times."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from compressrl import files
from compressrl.errors import CompressrlError

NAME = "cores.lock"


@contextmanager
def pinned() -> Iterator[int | None]:
    """Keep this process and its children on one core that no other cell on this machine has been given.

    Gives the core; None where all are taken, this system does not pin, or the cache cannot be written. As
    with cells (`claims`), the end of a process frees its core.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    allowed = os.sched_getaffinity(0)
    with ExitStack() as stack:
        core = _claim(sorted(allowed), stack)
        if core is not None:
            os.sched_setaffinity(0, {core})
            stack.callback(os.sched_setaffinity, 0, allowed)
        yield core


def _claim(allowed: Iterable[int], stack: ExitStack) -> int | None:
    """A core that is free, until the stack is left."""
    try:
        path = files.make_folder(files.cache_folder("study")) / NAME
        claims = stack.enter_context(path.open("ab"))
    except (CompressrlError, OSError):
        return None
    return next((core for core in allowed if _take(claims.fileno(), core)), None)


def _take(descriptor: int, core: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, core)
    except OSError:
        return False
    return True
