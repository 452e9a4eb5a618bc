"""What runtimes share when they write what is deployed."""

from __future__ import annotations

import shutil
from pathlib import Path

from compressrl.interfaces import DEPLOYED_MODULE


def write(folder: Path, runtime: str, name: str, content: bytes) -> None:
    """Write one runtime's module deployed.py into a folder, and beside it the file that the module reads."""
    shutil.copyfile(Path(__file__).with_name(f"deployed_{runtime}.py"), folder / DEPLOYED_MODULE)
    (folder / name).write_bytes(content)
