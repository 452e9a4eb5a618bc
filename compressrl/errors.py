"""Errors that a user can cause: one or two lines that say what is wrong and what to do.

The command line prints them without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompressrlError(Exception):
    """Base of every error that is told to the user in its own words. Exit code 1: ran and failed."""

    exit_code = 1


class UsageError(CompressrlError):
    """What was asked for cannot be: unknown name, bad option, incompatible policy. Exit code 2."""

    exit_code = 2


def one_line(error: BaseException) -> str:
    """Anybody's error for a message of ours: `ValueError: what it says`, without line breaks or full stop."""
    said = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what it says; torch has no type for it on a CPU."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "allocate memory" in said or "out of memory" in said


def in_words(error: BaseException) -> str:
    """Anybody's error in one line: ours in its own words, `one_line` of another's."""
    if isinstance(error, CompressrlError):
        return str(error)
    return "There is not enough memory for it" if out_of_memory(error) else one_line(error)


class UnknownNameError(UsageError):
    """A name that nothing answers to; the message suggests the nearest ones."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], hint: str = "", *, list_known: bool = True
    ) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        parts = [f"Unknown {kind} {name!r}."]
        if close:
            parts.append(f"Did you mean {' or '.join(repr(c) for c in close)}?")
        if list_known:
            parts.append(f"Known: {', '.join(names) or 'none'}.")
        super().__init__(" ".join([*parts, hint]).strip())


class OptionError(UsageError):
    """An option of a plugin that does not exist or has a value out of its range."""


class PluginConflictError(UsageError):
    """Two distributions claim one name. Refused: the message names both owners."""


class PipelineError(UsageError):
    """A pipeline whose stages do not fit each other."""


class NoCFormError(UsageError):
    """A policy that cannot be written as C."""


class PolicyFileError(UsageError):
    """A policy file that is missing, truncated, altered or not a policy."""


class EnvironmentUnavailableError(UsageError):
    """An environment that is unknown, lacks a dependency or does not fit the policy or algorithm."""


class EnvironmentFailedError(CompressrlError):
    """An environment has raised an error while it was stepped or reset."""


class TrainingDivergedError(CompressrlError):
    """A loss or parameter became NaN or infinite; the last good policy is kept."""
