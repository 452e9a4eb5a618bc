"""Which process runs which cell of a folder.

One byte of one file is locked for each cell that is being run (POSIX record locks). The kernel, or the
server of a shared file system, releases the locks of a process that ends, however it ends: no claim is ever
stale.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from types import TracebackType

NAME = "claims.lock"


class Claims:
    """The cells that this process has claimed. One object a folder and process: closing it frees all."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / NAME).open("ab")

    def take(self, key: str) -> bool:
        """Claim a cell; False where another process has it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
        except OSError:
            return False
        return True

    def release(self, key: str) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(key))

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _offset(key: str) -> int:
    return int(key, 16) >> 1  # file offsets have 63 bits
