"""Cores for cells, between real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from compressrl import files
from compressrl.study import cores

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin")
HOLDER = """
import os, sys
from compressrl.study import cores
with cores.pinned() as core:
    print(core, *os.sched_getaffinity(0), flush=True)
    sys.stdin.read()
"""


def test_every_process_has_a_core_of_its_own_while_there_are_some(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path))
    allowed = sorted(os.sched_getaffinity(0))
    held, processes = [], []
    for _ in allowed:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        held.append(process.stdout.readline().split())
    with cores.pinned() as core:
        assert core is None, "all are taken"
        assert sorted(os.sched_getaffinity(0)) == allowed
    for process in processes:
        process.kill()
        process.communicate()
    assert held == [[str(core), str(core)] for core in allowed]
    with cores.pinned() as core:
        assert os.sched_getaffinity(0) == {core} == {allowed[0]}, "the end of a process frees its core"
    assert sorted(os.sched_getaffinity(0)) == allowed
