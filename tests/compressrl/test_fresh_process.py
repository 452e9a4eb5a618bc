"""Fresh interpreters: instructions, and what becomes of them when these break off."""

from __future__ import annotations

import pickle
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
