"""Claims of cells, between real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compressrl.study.claims import Claims

HOLDER = """
import sys, pathlib
from compressrl.study.claims import Claims
claims = Claims(pathlib.Path(sys.argv[1]))
print(*[claims.take(key) for key in sys.argv[2:]], flush=True)
sys.stdin.read()
"""
KEYS = ["0" * 16, "f" * 16, "0123456789abcdef"]


@pytest.fixture
def hold(tmp_path):
    processes = []

    def start(*keys: str) -> tuple[subprocess.Popen, list[str]]:
        words = [sys.executable, "-c", HOLDER, str(tmp_path), *keys]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process, process.stdout.readline().split()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_claim_is_one_processs_alone_and_ends_with_it(tmp_path, hold):
    holder, taken = hold(*KEYS)
    assert taken == ["True"] * 3
    with Claims(tmp_path) as claims:
        assert [claims.take(key) for key in KEYS] == [False] * 3
        assert claims.take("1" * 16), "another cell is free"
        holder.kill()
        holder.wait()
        assert [claims.take(key) for key in KEYS] == [True] * 3
        assert hold(*KEYS)[1] == ["False"] * 3
        claims.release(KEYS[0])
        assert hold(*KEYS)[1] == ["True", "False", "False"]
