"""What all commands share: errors in the user's words, progress on stderr, JSON on stdout."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from compressrl import options
from compressrl.errors import CompressrlError, out_of_memory

P = ParamSpec("P")
debug = False
INTERRUPTED = 1
MAX_SEED = 2**32 - 1  # the largest that every generator takes


def console(stderr: bool = False) -> Console:
    """A console on the stream as it is now (tests replace the streams)."""
    return Console(stderr=stderr, highlight=False)


def say(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    print(text, file=sys.stderr)  # noqa: T201


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a user can cause into one or two lines on stderr and an exit code.

    1: ran and failed; 2: wrong usage
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with _json_alone() if kwargs.get("as_json") else contextlib.nullcontext():
                command(*args, **kwargs)
        except CompressrlError as error:
            if debug:
                raise
            say(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            if debug:
                raise
            say("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if debug:
                raise
            if out_of_memory(error):
                say("error: There is not enough memory for what was asked for. --debug shows where.")
                raise typer.Exit(1) from None
            say(f"unexpected error: {type(error).__name__}: {error}\nRun it again with --debug to see where.")
            raise typer.Exit(1) from None

    return run


def step_count(text: str) -> int:
    """A number of environment steps as people write it: 1000000, 1_000_000 or 1e6."""
    try:
        steps = options.whole_number(text)
    except (ValueError, OverflowError):
        steps = 0
    if steps < 1:
        raise typer.BadParameter(f"{text!r} is not a whole number of at least 1.")
    return steps


def print_json(value: Any) -> None:
    """One JSON value on stdout, once the command is done; nothing else is there."""
    _documents.append(json.dumps(value, indent=1, allow_nan=False))


_documents: list[str] = []


@contextlib.contextmanager
def _json_alone() -> Iterator[None]:
    """What environments and plugins print meanwhile goes to stderr, also from C and from other processes."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C has printed and not yet written
        os.dup2(kept, 1)
        os.close(kept)
        while _documents:
            print(_documents.pop(0))  # noqa: T201


def picture(path: Path | None) -> Callable[[Mapping[str, Any]], None]:
    """What writes a report's picture to `path`; nothing where that is None.

    Raises UsageError now, before anything long starts, for a wrong suffix or a missing matplotlib.
    """
    if path is None:
        return lambda document: None
    from compressrl.pictures import plots

    plots.check_path(path)
    return functools.partial(_save_picture, path)


def _save_picture(path: Path, document: Mapping[str, Any]) -> None:
    from compressrl.pictures import plots

    plots.save(document, path)
    say(f"Picture: {path}")


class TerminalProgress:
    """Progress on stderr: bars on a terminal, a plain line every ten per cent elsewhere."""

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._shown: dict[str, int] = {}
        self._started = time.monotonic()

    def __enter__(self) -> TerminalProgress:
        if self._console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, task: str, done: float, total: float, note: str = "") -> None:
        if self._bars is None:
            self._print_line(task, done, total, note)
            return
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total, note=note)
        self._bars.update(self._tasks[task], completed=done, total=total, note=note)

    def _print_line(self, task: str, done: float, total: float, note: str) -> None:
        tenth = int(10 * done / total) if total else 10
        if self._shown.get(task) != tenth:
            self._shown[task] = tenth
            elapsed = time.monotonic() - self._started
            say(f"[{elapsed:6.0f} s] {task}: {done:.0f}/{total:.0f} {note}".rstrip())
