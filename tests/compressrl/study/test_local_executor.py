"""Cells in processes of this machine, some of which die."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compressrl.study import running
from compressrl.study.local_executor import LocalExecutor


@pytest.fixture
def run_all(tmp_path):
    def run(store, jobs, workers: int = 2):
        tally = running.stand(store, jobs)
        with (tmp_path / "workers.log").open("ab") as output, LocalExecutor(workers, output) as executor:
            running.run(store, tally, executor, lambda tally, outcome: None)
        return tally

    return run


def test_every_cell_runs_once_whatever_the_number_of_processes(prepare, log, run_all):
    returns = []
    for workers in (1, 3):
        store, jobs = prepare(f"by{workers}", compressors=["noting"], repeats=2)
        run_all(store, jobs, workers)
        outcomes = store.outcomes()
        assert [o.status for o in outcomes] == ["done"] * 8
        returns.append([o.report["compressed"]["return"] for o in outcomes])
        assert len(log.read_text().splitlines()) == 4
        log.unlink()
    assert returns[0] == returns[1]


def test_a_process_that_is_killed_is_replaced_and_its_cell_run_again(prepare, log, run_all):
    store, jobs = prepare(compressors=["noting:deaths=1"], policies=["tiny0.policy"])
    tally = run_all(store, jobs)
    assert (tally.done, tally.failed) == (2, 0)
    assert len(log.read_text().splitlines()) == 2


def test_a_cell_whose_process_is_killed_twice_has_failed_with_the_reason(prepare, log, run_all):
    store, jobs = prepare(compressors=["noting:deaths=9"], policies=["tiny0.policy"])
    run_all(store, jobs)
    baseline, killed = store.outcomes()
    assert baseline.status == "done"
    assert killed.status == "failed"
    assert killed.error == "Its process died 2 times: killed by SIGKILL, perhaps for want of memory."
    assert len(log.read_text().splitlines()) == 2


def test_what_a_cell_prints_goes_to_the_log(prepare, run_all, install, log, tmp_path, capfd):
    printing = """
        import sys
        from compressrl import PluginEntry, hookimpl
        class Loud:
            def compress(self, policy, lab):
                print("to stdout"); print("to stderr", file=sys.stderr)
                return policy
        @hookimpl
        def compressrl_compressors():
            return [PluginEntry("loud", "", "loud:Loud")]
    """
    install("loud", {"loud": "loud"}, {"loud": printing})
    run_all(*prepare(compressors=["loud"]))
    assert capfd.readouterr() == ("", "")
    assert {"to stdout", "to stderr"} <= set((tmp_path / "workers.log").read_text().splitlines())


DRIVER = """
import sys, time
from pathlib import Path
from compressrl.study import definition, planning
from compressrl.study.local_executor import LocalExecutor
jobs = planning.plan(definition.read(Path(sys.argv[1]))).jobs
with open("/dev/null", "wb") as log, LocalExecutor(2, log) as executor:
    executor.submit(jobs[1])
    print("started", flush=True)
    time.sleep(60)
"""


def test_processes_end_with_the_one_that_started_them(write, log, tmp_path):
    path = write(compressors=["noting:seconds=50"])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, path], stdout=subprocess.PIPE, env=environment)
    with driver:
        driver.stdout.readline()
        deadline = time.monotonic() + 30
        while not log.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        children = [pid for pid in _processes() if _parent(pid) == driver.pid]
        assert children
        driver.kill()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
