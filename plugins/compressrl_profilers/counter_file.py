"""A counter in /proc or /sys, read through a descriptor that stays open."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

SIZE = 24  # bytes: a 64-bit number and its line break, or the first two of /proc/self/statm
pread = os.pread


class CounterFile:
    """One `pread` a reading (0.5-1.1 µs); opened by the first one, and anew in a forked or unpickled copy.

    descriptor: for who cannot afford a call of `read` around `pread`; -1 where the file is to be opened yet
    A child must not read through its parent's descriptor: /proc/self/statm opened before a fork shows the
    parent.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1
        _instances.add(self)

    def read(self) -> bytes:
        """The first `SIZE` bytes. Raises OSError."""
        if self.descriptor < 0:
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return pread(self.descriptor, SIZE, 0)

    @property
    def vanished(self) -> bool:
        """Whether the file behind the open descriptor was deleted: it would show its last value for ever."""
        return self.descriptor >= 0 and os.fstat(self.descriptor).st_nlink == 0

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[CounterFile], tuple[str]]:
        return CounterFile, (self.path,)


def on_sysfs(path: Path) -> bool:
    """Whether the kernel itself shows this path (Linux)."""
    real = path.resolve()
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [fields for fields in mounts if real.is_relative_to(fields[1])]
    return max(above, key=lambda fields: len(fields[1]))[2] == "sysfs"


_instances: weakref.WeakSet[CounterFile] = weakref.WeakSet()


def _close_all() -> None:
    for file in _instances:
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
