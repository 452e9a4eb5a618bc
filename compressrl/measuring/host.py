"""The machine and the versions that a measurement was taken with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "mujoco", "gymnasium", "onnxruntime", "compressrl")


def describe() -> dict[str, Any]:
    """{cpu, cores, python, torch, numpy, mujoco, gymnasium, onnxruntime, compressrl}; None: not installed."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def busy_seconds() -> float | None:
    """CPU time that the machine has spent on anything, all cores; None where /proc/stat is missing."""
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=8)
    except OSError:
        return None
    # cpu user nice system idle iowait irq softirq: all but idle and iowait
    user, nice, system, _, _, irq, softirq = map(int, fields[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
