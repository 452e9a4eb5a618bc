"""What an exported policy takes on a microcontroller, where the cross-compiler is installed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

COMPILER, SIZE = "arm-none-eabi-gcc", "arm-none-eabi-size"
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", "-ffunction-sections")


@dataclass(frozen=True)
class Footprint:
    """Bytes on a Cortex-M4, without the C library and the caller's stack.

    flash: code, weights and other constants
    ram:   static buffers
    """

    flash: int
    ram: int


def footprint(source: str) -> Footprint | None:
    """Compile a C file for a Cortex-M4 with FPU; None where the compiler is not installed.

    None too, with a warning in the compiler's words, where it fails.
    """
    compiler, size = shutil.which(COMPILER), shutil.which(SIZE)
    if compiler is None or size is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "policy.o"
        made = subprocess.run(
            [compiler, *CORTEX_M4, *FLAGS, "-c", "-x", "c", "-", "-o", str(code)],
            input=source,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            words = next(iter(made.stderr.strip().splitlines()), f"exit code {made.returncode}")
            logging.getLogger("compressrl").warning(
                "warning: flash and RAM are not known, because %s fails: %s", COMPILER, words
            )
            return None
        listed = subprocess.run([size, str(code)], capture_output=True, text=True, check=True).stdout
    text, data, bss = (int(word) for word in listed.splitlines()[1].split()[:3])
    return Footprint(flash=text + data, ram=data + bss)
