"""`--power-trace`, with the real energy profiler on a fake powercap tree."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compressrl.cli import power
from compressrl.errors import UsageError
from compressrl.testing.powercap import FakePowercap


@pytest.fixture
def meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePowercap:
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(tmp_path / "powercap"))
    return FakePowercap(tmp_path / "powercap")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("meter")
def test_power_and_tasks_are_written_and_progress_is_passed_on(
    tmp_path: Path, meter: FakePowercap, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[str] = []
    path = tmp_path / "new" / "power.csv"
    with (
        meter.constant_power({"package-0": 30.0, "package-0/dram": 10.0}),
        power.traced(path, [], lambda task, done, total, note="": heard.append(task)) as progress,
    ):
        time.sleep(0.2)
        progress("profiling", 0, 1)
        time.sleep(0.3)
    last = rows(path)[-1]
    assert float(last["joules"]) / float(last["seconds"]) == pytest.approx(40, rel=0.05)
    assert last["task"] == "profiling"
    assert heard == ["profiling"]
    told = capsys.readouterr()
    assert "samples of powercap package-0, package-0/dram" in told.err
    assert told.out == ""


@pytest.mark.usefixtures("meter")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_was_sampled_is_written_when_the_block_is_broken_off(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "power.csv"
    with pytest.raises(error), power.traced(path, [], lambda *_: None):
        raise error
    assert len(rows(path)) == 2


@pytest.mark.usefixtures("meter")
def test_an_unknown_suffix_is_refused_before_the_block(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match=r"suffix of --power-trace '\.txt'.*Known: \.csv")
    with refused, power.traced(tmp_path / "power.txt", [], lambda *_: None):
        pytest.fail("the block ran")


def test_without_a_meter_the_command_says_why_and_does_nothing(tmp_path: Path) -> None:
    arguments = ["evaluate", "--algo", "sac", "--compressor", "qat", "--power-trace", str(tmp_path / "p.csv")]
    done = subprocess.run(
        [sys.executable, "-m", "compressrl", *arguments],
        env={**os.environ, "COMPRESSRL_POWERCAP_ROOT": "/nowhere"},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: No power trace: No CPU energy counter under /nowhere")
    assert len(done.stderr.splitlines()) <= 2
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
