"""Writing files so that a crash or a full disk leaves the old one whole."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from compressrl.errors import CompressrlError, UnknownNameError, UsageError

CACHE_VARIABLE = "COMPRESSRL_CACHE"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    Raises CompressrlError, in the user's words, when the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CompressrlError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_bytes_atomic(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text_atomic(path: Path, content: str) -> None:
    write_bytes_atomic(path, content.encode())


def write_json_atomic(path: Path, value: Any) -> None:
    write_text_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def make_folder(path: Path, option: str = "--out") -> Path:
    """Create a folder that can be written, or say why not (UsageError)."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable.{secrets.token_hex(8)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"The folder {path} cannot be written: {error.strerror or error}. Choose another {option}."
        ) from error
    return path


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """While this process is at work in the folder, another is refused (UsageError); its end frees it.

    The folder is made where there is none, and removed again where nothing is written into it.
    """
    is_new, lock = not folder.exists(), make_folder(folder) / ".lock"
    with lock.open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UsageError(
                f"Another process is at work in {folder}. Wait for its end, or choose another --out."
            ) from None
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # somebody has removed it
                if is_new and list(folder.iterdir()) == [lock]:
                    lock.unlink()
                    folder.rmdir()


def remove_temporaries(folder: Path) -> None:
    """Remove what `atomic` has left where its process was killed; for one that is alone in the folder."""
    for path in folder.glob(f".*.{'[0-9a-f]' * 16}.tmp"):
        path.unlink(missing_ok=True)


def check_target(path: Path, suffixes: Iterable[str], option: str) -> None:
    """Raise UsageError where a file that `option` names could not be written: suffix, folder."""
    known = list(suffixes)
    if path.suffix not in known:
        raise UnknownNameError(f"suffix of {option}", path.suffix, known)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file.")
    make_folder(path.parent, option)


def refuse_to_replace(source: object, *targets: Path) -> None:
    """Raise UsageError where the file that is read, `source` if it is a path, is one that will be written."""
    if not isinstance(source, str | Path) or not str(source):
        return
    if Path(source).resolve() in [target.resolve() for target in targets]:
        raise UsageError(f"{source} would be replaced by what is made of it. Choose another --out.")


def cache_folder(purpose: str) -> Path:
    """$COMPRESSRL_CACHE, or compressrl in the user's cache folder, then `purpose`. It may not exist yet."""
    own, users = os.environ.get(CACHE_VARIABLE), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own) / purpose
    try:
        return Path(users or Path.home() / ".cache") / "compressrl" / purpose
    except RuntimeError as error:
        raise CompressrlError(f"There is no home folder for the cache: set {CACHE_VARIABLE}.") from error
