"""What all commands share: JSON alone on stdout, numbers of steps as people write them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from compressrl.cli import terminal
from compressrl.testing import tiny_policy

LOUD = """
import ctypes
import gymnasium
from compressrl.testing import TINY

class Loud(gymnasium.Wrapper):
    def step(self, action):
        print("a step in Python")
        ctypes.CDLL(None).printf(b"a step in C\\n")
        return self.env.step(action)

gymnasium.register("Loud-v0", lambda: Loud(gymnasium.make(TINY)))
"""


def test_json_stands_alone_whatever_the_environment_prints(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    tiny_policy().save(tmp_path / "tiny.policy")
    words = [
        "export",
        "--policy",
        "tiny.policy",
        "--out",
        "tiny.c",
        "--env",
        "loud:Loud-v0",
        "--episodes",
        "1",
        "--json",
    ]
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "compressrl", *words]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": ""},
        capture_output=True,
        text=True,
    )
    assert json.loads(run.stdout)["episodes"] == 1, run.stderr
    assert "a step in Python" in run.stderr
    assert "a step in C" in run.stderr


@pytest.mark.parametrize(
    ("text", "steps"), [("1e6", 10**6), ("300_000", 300_000), ("1", 1), ("2.5e3", 2500), ("1e+3", 1000)]
)
def test_step_counts(text, steps):
    assert terminal.step_count(text) == steps


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "many", "", "nan", "inf", "1e999"])
def test_what_is_no_step_count_is_refused_in_one_line(text):
    with pytest.raises(typer.BadParameter, match="is not a whole number of at least 1"):
        terminal.step_count(text)
