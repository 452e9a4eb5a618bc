"""Processes of ours that start as fresh interpreters.

Not forks (unsafe once torch or ONNX Runtime have threads), nor multiprocessing's spawned ones (which import
the caller's script again, and need it to have a main guard).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import connection
from typing import IO, Any

THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PROGRAM = """\
import importlib, pickle, sys
try:
    sys.path[:], module, arguments = pickle.load(sys.stdin.buffer)
    main = importlib.import_module(module).main
except (EOFError, pickle.UnpicklingError, KeyboardInterrupt):
    sys.exit(1)  # who started it was interrupted
main(*arguments)
"""


def start(descriptors: Sequence[int], output: int | IO[bytes] = 2) -> subprocess.Popen[bytes]:
    """An interpreter that waits to be instructed; it has one thread for arithmetic, and no Ctrl-C.

    descriptors: file descriptors that it inherits
    output:      where what it prints goes; what an environment prints is no result
    """
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=None if output == 2 else output,
        pass_fds=tuple(descriptors),
        start_new_session=True,  # Ctrl-C is for this process, which then ends the others
        env=os.environ | dict.fromkeys(THREAD_COUNTS, "1"),
    )


def instruct(process: subprocess.Popen[bytes], module: str, arguments: tuple[Any, ...]) -> None:
    """Let it run `main(*arguments)` of this module. Its stdin stays open: it ends when this process does."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # who waits for its results sees its end
        pickle.dump((sys.path, module, arguments), process.stdin)
        process.stdin.flush()


def converse(
    module: str, *arguments: Any, output: int | IO[bytes] = 2
) -> tuple[connection.Connection, subprocess.Popen[bytes]]:
    """A process that runs `main(descriptor, *arguments)` of this module, and the connection to it.

    descriptor: of its end of the connection
    output:     as of `start`
    """
    ours, theirs = connection.Pipe()
    with theirs:
        descriptor = theirs.fileno()
        process = start([descriptor], output)
    instruct(process, module, (descriptor, *arguments))
    return ours, process


def end(process: subprocess.Popen[bytes]) -> int:
    """Stop it, whatever it is doing; returns its exit status, negative where a signal ended it."""
    process.kill()
    status = process.wait()
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    return status
