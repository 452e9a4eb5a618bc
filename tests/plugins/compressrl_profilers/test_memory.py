"""The memory profiler, with real child processes."""

import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import pytest

from compressrl.interfaces import Workload
from compressrl.testing import ProfilerContract
from compressrl.testing.policies import states, tiny_policy
from compressrl_profilers import memory
from compressrl_profilers.memory import MemoryProfiler

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not memory.ROLLUP.exists(), reason=memory.NO_PROC)


@pytest.fixture(autouse=True)
def runtimes(tmp_path, monkeypatch):
    """Let this process and its children import `memory_runtimes` and two libraries of known size."""
    here = Path(__file__).parent
    (tmp_path / "late_library.py").write_text("from memory_runtimes import allocate\nBLOCK = allocate(16)\n")
    (tmp_path / "later_library.py").write_text(
        "from memory_runtimes import allocate\nBLOCK = allocate(5)\nONE = 1\n"
    )
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.syspath_prepend(str(tmp_path))


def _workload(name, policy=None, **options):
    policy = policy or tiny_policy()
    return Workload("baseline", policy, name.lower(), f"memory_runtimes:{name}", options, policy, states(50))


def _measure(*workloads, repeats=1):
    return MemoryProfiler(repeats=repeats).measure(workloads)


class TestContract(ProfilerContract):
    plugin = MemoryProfiler
    options: ClassVar = {"repeats": 1}


def test_every_stage_holds_what_was_allocated_in_it():
    small, large = _measure(_workload("Greedy"), _workload("Greedy", factor=2))

    assert 20 * MIB < small.library < 60 * MIB, "numpy is in it, too"
    assert small.model == pytest.approx(8 * MIB, abs=MIB / 2)
    assert large.model == pytest.approx(16 * MIB, abs=MIB / 2)
    assert small.runtime == pytest.approx(3 * MIB, abs=MIB / 4)
    assert small.peak > small.library + 64 * MIB, "the moment while loading"
    assert large.library == pytest.approx(small.library, abs=MIB)
    assert small.reason == ""
    json.dumps(asdict(small), allow_nan=False)


def test_stages_are_in_order_with_peaks_of_their_own():
    (record,) = _measure(_workload("Greedy"))
    stages = record.details["stages"]

    assert list(stages) == ["interpreter", "import", "load", "first", "steady"]
    assert stages["load"]["peak"] > stages["import"]["peak"] + 63 * MIB
    assert stages["steady"]["peak"] < stages["load"]["peak"], "the peak is reset between the stages"
    assert all(stage["anonymous"] <= stage["resident"] <= stage["peak"] + MIB for stage in stages.values())


def test_what_loading_imports_is_library_and_not_model():
    (record,) = _measure(_workload("LateImport"))
    assert record.library > (20 + 16 + 5) * MIB
    assert record.model < MIB
    assert record.runtime < MIB


def test_the_child_imports_nothing_that_the_runtime_does_not_need():
    (record,) = _measure(_workload("Suspicious"))
    assert record.reason == ""
    assert record.library < 40 * MIB + 20 * MIB


def test_the_parents_memory_does_not_show_in_the_child():
    ballast = bytearray(300 * MIB)
    (record,) = _measure(_workload("Suspicious"))
    assert record.peak < len(ballast) / 2


@pytest.mark.parametrize("form", ["network", "integer", "graph"])
def test_every_form_of_a_policy_travels_to_the_child(form):
    (record,) = _measure(_workload("Chatty", tiny_policy(form)))
    assert record.reason == ""
    assert record.peak > 0


def test_what_is_deployed_is_measured_without_numpy_and_this_package():
    deployed, other = _measure(_workload("Deployed"), _workload("Chatty"))
    assert deployed.reason == ""
    # memory_runtimes itself allocates 20 MiB.
    assert deployed.library == pytest.approx(29 * MIB, abs=MIB / 2)
    assert deployed.model == pytest.approx(7 * MIB, abs=MIB / 4)
    assert deployed.details["process"] == "deployed"
    assert other.details["process"] == "reads the policy file"


def test_native_adds_less_than_two_megabytes_to_the_interpreter():
    policy = tiny_policy(hidden=(256, 256))
    target = "compressrl_runtimes.native_runtime:NativeRuntime"
    (record,) = _measure(Workload("baseline", policy, "native", target, {}, policy, states(50)))
    stages = record.details["stages"]
    assert record.library + record.model + record.runtime < 2e6
    assert stages["steady"]["resident"] - stages["interpreter"]["resident"] < 2e6, "with code and weights"


def test_a_policy_that_cannot_be_deployed_is_none_with_the_reason():
    (record,) = _measure(_workload("Undeployable"))
    assert (record.peak, record.reason) == (None, "It cannot leave the house.")


def test_a_runtime_that_fails_in_the_child_is_none_with_the_reason_and_the_other_side_stands():
    broken, fine = _measure(_workload("Broken"), _workload("Chatty"))
    assert (broken.library, broken.model, broken.runtime, broken.peak) == (None, None, None, None)
    assert broken.reason == "broken failed in a fresh process: RuntimeError: no such accelerator"
    assert fine.library > 0


def test_a_child_that_hangs_is_none_with_the_reason(monkeypatch):
    monkeypatch.setattr(memory, "TIMEOUT_SECONDS", 0.001)
    (record,) = _measure(_workload("Chatty"))
    assert record.peak is None
    assert "did not end within" in record.reason


def test_repeats_count_without_the_scouting_process():
    (record,) = _measure(_workload("Chatty"), repeats=2)
    assert record.details["repeats"] == 2
    ranges = record.details["ranges"]
    assert ranges.keys() == {"library", "model", "runtime", "peak"}
    assert all(low <= getattr(record, name) <= high for name, (low, high) in ranges.items())


def test_without_proc_everything_is_none_with_a_reason(monkeypatch):
    monkeypatch.setattr(memory, "ROLLUP", Path("/nowhere/smaps_rollup"))
    monkeypatch.setattr(memory, "STATM", "/nowhere/statm")
    records = _measure(_workload("Chatty"), _workload("Chatty"))
    profiler = MemoryProfiler()

    assert [(record.peak, record.reason) for record in records] == [(None, memory.NO_PROC)] * 2
    assert profiler.read() is None
    assert profiler.available() == (
        False,
        "The resident set needs Linux's /nowhere/statm; this system has none.",
    )


def test_the_reading_is_the_resident_set_in_bytes():
    import memory_runtimes

    profiler = MemoryProfiler()
    before = profiler.read()
    block = memory_runtimes.allocate(32)
    grown = profiler.read()
    block.close()

    assert grown - before == pytest.approx(32 * MIB, abs=4 * MIB)
    assert profiler.read() - before < 8 * MIB, "a level, not a counter"
    assert profiler.cumulative is False


def test_a_pickled_profiler_reads_by_itself():
    profiler = MemoryProfiler(repeats=2)
    profiler.read()
    assert pickle.loads(pickle.dumps(profiler)).read() > 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_step_loops_reader_follows_the_resident_set_and_shows_a_forked_process_its_own():
    read = MemoryProfiler().reader()
    before = read()
    block = bytearray(64 * MIB)
    block[:: 1 << 12] = bytes(len(block) >> 12)
    assert read() - before == pytest.approx(64 * MIB, abs=MIB)

    child = os.fork()
    if child == 0:
        before = read()
        more = bytearray(128 * MIB)
        more[:: 1 << 12] = bytes(len(more) >> 12)
        os._exit(0 if read() - before > 100 * MIB else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
