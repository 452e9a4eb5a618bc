"""A training run's checkpoint as a file: written whole or not at all, and read only as it was written."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

from compressrl import files
from compressrl.errors import CompressrlError, UsageError, one_line, out_of_memory


def write(path: Path, content: dict[str, Any]) -> None:
    """Tensors, numbers, strings, and lists and dicts of them; a failure leaves the old file.

    Raises CompressrlError where it cannot be written.
    """
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        _torch_save(content, file)


def read(path: Path, names: set[str]) -> dict[str, Any]:
    """What `write` has written, on the CPU; it never runs code of the file.

    Raises UsageError for a damaged file and for one that lacks some of these names; CompressrlError where a
    good one cannot be read now.
    """
    import torch

    try:
        _refuse_damaged(path)
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = names - saved.keys()
    except CompressrlError:
        raise
    except OSError as error:
        raise CompressrlError(f"{path} cannot be read: {one_line(error)}.") from error
    except Exception as error:  # torch raises many types
        if out_of_memory(error):
            needed = path.stat().st_size / 1e9
            raise CompressrlError(
                f"{path} does not fit into memory: to read it takes {needed:.1f} GB beside the run's own."
            ) from error
        raise _not_ours(path) from error
    if missing:
        raise _not_ours(path)
    return saved


def _refuse_damaged(path: Path) -> None:
    # torch writes checksums and does not compare them; it reads nothing for what is marked as a folder.
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None and not any(each.external_attr for each in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError):
        whole = False
    if not whole:
        raise UsageError(f"{path} is damaged. Delete it to start anew, or choose another --out.")


def _not_ours(path: Path) -> UsageError:
    return UsageError(f"{path} is not a checkpoint of a training run. Choose another --out, or delete it.")


def _torch_save(value: Any, file: IO[bytes]) -> None:
    """torch.save, with the OSError of a failed write; torch hides it in a RuntimeError."""
    import torch

    try:
        torch.save(value, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
