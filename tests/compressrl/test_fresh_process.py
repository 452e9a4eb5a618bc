"""Fresh interpreters: instructions, and what becomes of them when these break off."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys

import pytest

from compressrl import fresh_process


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_worker_whose_instructions_break_off_ends_without_a_word(share):
    """Ctrl-C may come while they are written."""
    whole = pickle.dumps((sys.path, tuple(range(1000))))
    command = [sys.executable, "-c", fresh_process.PROGRAM]
    part = whole[: int(share * len(whole))]
    ended = subprocess.run(command, input=part, capture_output=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == b""


def test_a_worker_that_is_interrupted_before_its_task_ends_without_a_word(tmp_path):
    """Ctrl-C may come while it imports what it needs, here a module that says when it is being imported."""
    (tmp_path / "slow_import.py").write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    instructions = pickle.dumps(([str(tmp_path), *sys.path], "slow_import", ()))
    command = [sys.executable, "-c", fresh_process.PROGRAM]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as worker:
        worker.stdin.write(instructions)
        worker.stdin.flush()
        worker.stdout.readline()
        worker.send_signal(signal.SIGINT)
        assert worker.wait(30) == 1
        assert worker.stderr.read() == b""
