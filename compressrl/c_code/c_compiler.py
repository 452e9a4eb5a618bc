"""C sources to shared libraries by the system's compiler, once: what is compiled stays in a cache."""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from compressrl import files
from compressrl.errors import CompressrlError

FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 300


class CompilerError(CompressrlError):
    """There is no C compiler, or it fails."""


def shared_library(key: str, source: Callable[[], str], flags: Sequence[str] = ()) -> Path:
    """The shared library of a C source, compiled for this machine.

    key:    changes whenever the source does
    source: writes it; not called where the library is in the cache already
    flags:  further ones of the compiler
    Raises CompilerError with the compiler's own words where it fails, or with the remedy where there is none
    or the cache cannot be written.
    """
    compiler = find()
    content = "\0".join([key, *compiler, *FLAGS, *flags, _target(compiler)])
    path = files.cache_folder("compiled") / f"{hashlib.sha256(content.encode()).hexdigest()}.so"
    if not path.exists():
        _compile(path, [*compiler, *FLAGS, *flags], source())
    return path


def _compile(path: Path, command: list[str], source: str) -> None:
    try:
        files.make_folder(path.parent, files.CACHE_VARIABLE)
        with files.atomic(path) as temporary:
            _run([*command, "-x", "c", "-", "-o", str(temporary), "-lm"], source)
    except CompressrlError as error:
        raise CompilerError(str(error)) from error


def find() -> tuple[str, ...]:
    """The words of $CC ("ccache gcc" is two), or the first of cc, gcc and clang.

    Raises CompilerError where there is none.
    """
    wanted = os.environ.get("CC", "").strip()
    for name, *arguments in [shlex.split(wanted)] if wanted else [[name] for name in COMPILERS]:
        found = shutil.which(name)
        if found:
            return found, *arguments
    where = (
        f"the compiler of $CC, {wanted}, is not there"
        if wanted
        else f"no C compiler ({', '.join(COMPILERS)})"
    )
    raise CompilerError(f"{where[0].upper()}{where[1:]}. Install gcc or clang, or set CC.")


@functools.cache
def _target(compiler: tuple[str, ...]) -> str:
    """What the compiler compiles for, all its macros: in a shared home, machines differ."""
    return _run([*compiler, *FLAGS, "-x", "c", "-dM", "-E", "-"], "")


def _run(command: list[str], source: str) -> str:
    try:
        result = subprocess.run(
            command, input=source, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilerError(f"{command[0]} cannot be run: {error}") from error
    if result.returncode != 0:
        said = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
        raise CompilerError(f"{command[0]} fails: {said[0] if said else f'exit code {result.returncode}'}")
    return result.stdout
