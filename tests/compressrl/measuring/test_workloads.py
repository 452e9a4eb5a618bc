"""Profilers that take part in an evaluation, and those that are set aside; what they measure of workloads."""

from __future__ import annotations

import numpy as np
import pytest

from compressrl.errors import PluginConflictError
from compressrl.measuring import workloads
from compressrl.progress import silent
from compressrl.testing import TINY, tiny_policy

PROFILER = """
    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_profilers():
        return [PluginEntry({name!r}, "", "{module}:{target}")]

    class Counting:
        quantity, unit = "energy", "J"

        def available(self):
            return True, "counting"

        def read(self):
            return 1.0

    class Measuring(Counting):
        def measure(self, workloads):
            return []
"""


def profiler(module: str, name: str, target: str) -> dict[str, str]:
    return {module: PROFILER.format(module=module, name=name, target=target)}


def test_a_profiler_that_cannot_be_made_does_not_stop_evaluations(install, caplog):
    install("lost", {"lost": "lost"}, profiler("lost", "lost", "Missing"))
    install("counting", {"counting": "counting"}, profiler("counting", "mine", "Counting"))
    made = workloads.create_profilers(())
    assert "mine" in made
    assert "lost" not in made
    assert "The profiler 'lost' of lost 1.0 (plugin 'lost') cannot be loaded" in caplog.text


def test_two_measurements_of_one_quantity_are_refused_naming_both(install):
    install("joules", {"joules": "joules"}, profiler("joules", "joules", "Measuring"), version="0.2")
    install("watts", {"watts": "watts"}, profiler("watts", "watts", "Measuring"), version="0.3")
    with pytest.raises(PluginConflictError) as error:
        workloads.create_profilers(())
    assert "measure energy: " in str(error.value)
    assert "'joules' of joules 0.2" in str(error.value)


FAULTY = """
    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_profilers():
        return [PluginEntry(name, "", f"{module}:{{name}}") for name in ("Gone", "Nameless", "Warm")]

    class Gone:
        quantity, unit = "wind", "m"
        def available(self):
            return True, "vane"
        def read(self):
            raise OSError("sensor is gone")

    class Nameless:
        def available(self):
            return True, "nobody knows"
        def read(self):
            return 1.0

    class Warm:
        quantity, unit = "temperature", "K"
        def available(self):
            return True, "thermometer"
        def read(self):
            return 300.0
        def measure(self, workloads):
            return [{{}} for _ in workloads]
"""


def test_a_profiler_that_cannot_take_part_is_set_aside_by_name(install, caplog):
    install("faulty", {"faulty": "faulty"}, {"faulty": FAULTY.format(module="faulty")})
    made = workloads.create_profilers(())
    assert not {"Gone", "Nameless", "Warm"} & set(made)
    owner = "of faulty 1.0 (plugin 'faulty') is left out"
    for name, reason in (
        ("Gone", "OSError: sensor is gone"),
        ("Nameless", "AttributeError: 'Nameless' object has no attribute 'quantity'"),
        ("Warm", "TypeError: measure() is for latency, energy, memory; without it, read() is counted"),
    ):
        assert f"The profiler {name!r} {owner}: {reason}" in caplog.text


def test_a_measurement_of_other_records_has_no_figure(install, caplog):
    class Wrong:
        quantity, unit = "energy", "J"

        def available(self):
            return True, ""

        def read(self):
            return 1.0

        def measure(self, given):
            return [object() for _ in given]

    load = workloads.load("baseline", tiny_policy(), "onnx")
    given = load.workload(np.zeros((4, 3), np.float32), TINY)
    (found,) = workloads.measure([given], {"wrong": Wrong()}, silent)
    assert found.energy.joules_per_decision is None
    assert "its records are object, not compressrl.records.Energy" in found.energy.reason
