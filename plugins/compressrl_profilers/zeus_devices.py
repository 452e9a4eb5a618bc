"""Energy of GPUs and systems on a chip, read by Zeus (https://ml.energy/zeus).

Only `zeus.device` is imported, and only where such a device can be: `zeus.monitor` costs 140 MB and two
seconds, and its windows end wrong after a counter wraps.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

from compressrl_profilers.meters import MeterError

JETSON_MARKS = ("/etc/nv_tegra_release", "/usr/lib/aarch64-linux-gnu/tegra")
# Opened by whoever computes on a GPU (CUDA, ROCm), but not by NVML or amdsmi, which only watch it.
COMPUTE_DEVICES = {"/dev/nvidia-uvm", "/dev/kfd"}
# The parts that make up a chip, for one without a meter of its total; their own parts are not listed.
SOC_PARTS = ("cpu_total_mj", "cpu_energy_mj", "gpu_mj", "gpu_sram_mj", "gpu_energy_mj", "dram_mj", "ane_mj")


def soc_expected() -> bool:
    """Whether this is a machine whose chip Zeus can meter: Apple silicon or an NVIDIA Jetson."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return apple or any(Path(mark).exists() for mark in JETSON_MARKS)


def gpu_in_use() -> bool:
    """Whether this process computes on a GPU; False where that cannot be seen (no /proc)."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return False
    return any(_target(link) in COMPUTE_DEVICES for link in folder.iterdir())


class SocMeter:
    """The whole chip: CPU, GPU, memory. A reading costs tens of µs: use level `light` of InstrumentedEnv."""

    simulated = False
    min_window_seconds = 0.0

    def __init__(self) -> None:
        """Raises MeterError when Zeus finds no chip that it can read."""
        try:
            from zeus.device.soc import get_soc

            self._soc = get_soc()
        except Exception as error:
            raise MeterError(
                f"Zeus cannot read this chip ({_words(error)}).",
                "On Apple silicon: pip install zeus-apple-silicon.",
            ) from error
        self.zones: tuple[str, ...] = (type(self._soc).__name__,)
        self.source = f"Zeus {self.zones[0]}"

    def read(self) -> float:
        try:
            return soc_joules(self._soc.get_total_energy_consumption())
        except Exception as error:
            raise MeterError(f"{self.source} failed: {error}") from error

    def check(self) -> None:
        """Nothing: Zeus fails at the reading itself."""


class GpuMeter:
    """All GPUs visible to this process (CUDA_VISIBLE_DEVICES); their counters move every 20-100 ms."""

    simulated = False
    min_window_seconds = 0.0

    def __init__(self) -> None:
        """Raises MeterError when Zeus cannot read them."""
        try:
            from zeus.device.gpu import get_gpus

            self._gpus = list(get_gpus().gpus)
            self.zones = tuple(gpu.get_name() for gpu in self._gpus)
        except Exception as error:
            raise MeterError(
                f"Zeus can read no GPU ({_words(error)}).",
                "Where there is one, install its driver: `nvidia-smi` or `amd-smi` must list it.",
            ) from error
        self.source = f"Zeus {', '.join(self.zones)}"

    def read(self) -> float:
        try:
            return float(sum(gpu.get_total_energy_consumption() for gpu in self._gpus)) / 1e3
        except Exception as error:
            raise MeterError(f"{self.source} failed: {error}") from error

    def check(self) -> None:
        """Nothing: Zeus fails at the reading itself."""


def soc_joules(measurement: Any) -> float:
    """Joules of a Zeus SoCMeasurement: its total, or the sum of the parts that it has. Raises ValueError."""
    total = getattr(measurement, "total_energy_mj", None)
    if total is not None:
        return float(total) / 1e3
    parts = [getattr(measurement, name, None) for name in SOC_PARTS]
    known = [part for part in parts if part is not None]
    if not known:
        raise ValueError("it reports no energy")
    return float(sum(known)) / 1e3


def _words(error: Exception) -> str:
    return str(error).strip().rstrip(".")


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed since it was listed
        return ""
