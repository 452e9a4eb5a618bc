"""Ctrl-C, and a process that is asked to end: what must not be cut in the middle goes first."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_log = logging.getLogger("compressrl")


@contextlib.contextmanager
def held_back(doing: str = "") -> Iterator[None]:
    """What would raise KeyboardInterrupt meanwhile raises it at the end.

    doing: what takes so long, in words, for who presses Ctrl-C meanwhile
    """
    # Python's own handler alone: where a signal is ignored, or ends the process, it goes on to do so.
    held = [each for each in SIGNALS if _here(each, signal.default_int_handler)]
    came: list[int] = []
    over = False

    def note(number: int, _: FrameType | None) -> None:
        if over:  # one signal came between the restoring of this one and that of the other
            raise KeyboardInterrupt
        if doing and not came:
            _log.warning("%s first, a moment ...", doing)
        came.append(number)

    try:
        for each in held:
            signal.signal(each, note)
        yield
    finally:
        over = True
        for each in held:
            signal.signal(each, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


@contextlib.contextmanager
def by_termination() -> Iterator[None]:
    """SIGTERM (of kill, a batch system, a container's stop) is a Ctrl-C, so that what it stops is saved."""
    if not _here(signal.SIGTERM, signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _here(number: int, handler: object) -> bool:
    """Whether this is the thread that hears the signal, and it is handled so."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(number) is handler
