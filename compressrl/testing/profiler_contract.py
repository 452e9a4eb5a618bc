"""What every profiler must keep to."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import pytest

from compressrl import options
from compressrl.interfaces import Profiler, StepProfiler, Workload, WorkloadProfiler
from compressrl.measuring.workloads import RECORDS
from compressrl.testing import checks
from compressrl.testing.policies import states, tiny_policy
from compressrl.testing.runtimes import ReferenceRuntime


class ProfilerContract:
    """Tests of a profiler; see `compressrl.testing` for how to inherit them.

    plugin:  the class under test
    options: option values by name (say, short windows for a profiler that measures workloads)
    """

    plugin: ClassVar[type[Any]]
    options: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def profiler(self) -> Profiler:
        return cast(Profiler, options.build(self.plugin, self.plugin.__name__, self.options))

    @pytest.fixture
    def workloads(self) -> list[Workload]:
        """A baseline and a smaller policy, both in the reference runtime."""
        return [workload("baseline", (64, 64)), workload("compressed", (8,))]

    def test_options_are_described_and_the_defaults_are_valid(self) -> None:
        checks.assert_described(self.plugin, self.options)

    def test_quantity_and_unit_are_named(self, profiler: Profiler) -> None:
        assert isinstance(profiler.quantity, str)
        assert profiler.quantity.strip()
        assert isinstance(profiler.unit, str)
        assert profiler.unit.strip()
        assert isinstance(getattr(profiler, "cumulative", True), bool)

    def test_availability_comes_with_its_source_or_reason(self, profiler: Profiler) -> None:
        available, text = profiler.available()
        assert available is True or available is False
        assert isinstance(text, str)
        assert text.strip()

    def test_a_reading_is_a_finite_number_or_none_where_there_is_no_meter(self, profiler: Profiler) -> None:
        available, _ = profiler.available()
        value = profiler.read()
        assert (value is not None) == available
        if value is not None:
            assert isinstance(value, float)
            assert math.isfinite(value)
            assert value >= 0

    def test_a_counter_never_decreases(self, profiler: Profiler) -> None:
        if not getattr(profiler, "cumulative", True):
            return
        readings = [profiler.read() or 0.0 for _ in range(1000)]
        assert readings == sorted(readings)

    def test_a_step_loops_reader_gives_what_read_gives(self, profiler: Profiler) -> None:
        if not isinstance(profiler, StepProfiler):
            return
        read = profiler.reader()
        before, value, after = profiler.read(), read(), profiler.read()
        assert isinstance(value, float)
        assert math.isnan(value) == (before is None)
        if before is not None and after is not None and getattr(profiler, "cumulative", True):
            assert before <= value <= after

    def test_two_instances_read_alike(self, profiler: Profiler) -> None:
        other = options.build(self.plugin, self.plugin.__name__, self.options)
        assert other.available()[0] == profiler.available()[0]
        assert (other.read() is None) == (profiler.read() is None)

    @pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts file descriptors in /proc")  # noqa: PTH110
    def test_reading_keeps_no_more_files_or_threads_open(self, profiler: Profiler) -> None:
        profiler.read()
        before = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
        for _ in range(200):
            profiler.read()
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before  # noqa: PTH208

    def test_another_thread_may_read(self, profiler: Profiler) -> None:
        values: list[float | None] = []
        thread = threading.Thread(target=lambda: values.append(profiler.read()))
        thread.start()
        thread.join()
        assert [value is not None for value in values] == [profiler.read() is not None]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_forked_process_reads_too(self, profiler: Profiler) -> None:
        expected = profiler.read() is not None
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if (profiler.read() is not None) == expected else 1)
            finally:
                os._exit(2)  # read() raised
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0

    def test_workloads_get_one_record_each(self, profiler: Profiler, workloads: list[Workload]) -> None:
        if not isinstance(profiler, WorkloadProfiler):
            return
        records = profiler.measure(workloads)
        assert len(records) == len(workloads)
        assert profiler.quantity in RECORDS, "measure() is for these; any other quantity is counted by read()"
        for record in records:
            assert isinstance(record, RECORDS[profiler.quantity]), "the report has sections for these records"
            json.dumps(dataclasses.asdict(cast(Any, record)), allow_nan=False)

    def test_nothing_is_printed_on_stdout(
        self, profiler: Profiler, capfd: pytest.CaptureFixture[str]
    ) -> None:
        profiler.available()
        profiler.read()
        assert capfd.readouterr().out == "", "stdout belongs to the JSON of --json"


def workload(label: str, hidden: tuple[int, ...]) -> Workload:
    """A tiny policy in the reference runtime, with a thousand states."""
    policy = tiny_policy(hidden=hidden)
    return Workload(
        label=label,
        policy=policy,
        runtime_name="reference",
        runtime_target="compressrl.testing.runtimes:ReferenceRuntime",
        runtime_options={},
        function=ReferenceRuntime().load(policy),
        observations=states(1000),
    )
