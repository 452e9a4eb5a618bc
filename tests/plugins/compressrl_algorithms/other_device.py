"""Train where torch has a device more, `other`, of other_device.cpp; on that or on the CPU.

usage: other_device.py LIBRARY DEVICE ALGORITHM FOLDER STEPS [STEPS ...]
       other_device.py LIBRARY     compiles it
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils import cpp_extension

from compressrl import runs

SOURCE = Path(__file__).with_suffix(".cpp")


class Module:
    """What torch asks a device's module for."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        """Nothing draws from a generator of its own."""

    def _is_in_bad_fork(self) -> bool:
        return False


def build(library: str) -> None:
    words: list[Any] = ["c++", "-std=c++20", "-fPIC", "-shared", SOURCE, "-o", library]
    words += [f"-I{folder}" for folder in cpp_extension.include_paths()]
    for folder in cpp_extension.library_paths():
        words += [f"-L{folder}", f"-Wl,-rpath,{folder}"]
    subprocess.run([*words, "-lc10", "-ltorch_cpu"], check=True)


def register(library: str) -> None:
    torch.ops.load_library(library)
    torch.utils.rename_privateuse1_backend("other")
    torch._register_device_module("other", Module())


def train(library: str, device: str, algorithm: str, folder: str, *stretches: str) -> None:
    register(library)
    for steps in stretches:
        runs.train(algorithm, "Hopper-v5", steps=int(steps), out=folder, device=device)


if __name__ == "__main__":
    (train if sys.argv[2:] else build)(*sys.argv[1:])
