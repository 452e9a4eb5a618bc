"""`compressrl doctor`, as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compressrl.testing.powercap import FakePowercap


def run(*words: str, root: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COMPRESSRL_POWERCAP_ROOT": str(root), "COLUMNS": "80"}
    command = [sys.executable, "-m", "compressrl", "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def _powercap(root: Path) -> dict[str, object]:
    done = run("--json", root=root)
    assert (done.returncode, done.stderr) == (0, "")
    (energy,) = [e for e in json.loads(done.stdout)["profilers"] if e["name"] == "energy"]
    finding: dict[str, object]
    (finding,) = [f for f in energy["findings"] if f["name"] == "powercap (RAPL)"]
    return finding


def test_a_meter_that_is_there(tmp_path: Path) -> None:
    FakePowercap(tmp_path / "tree")
    finding = _powercap(tmp_path / "tree")
    assert finding["usable"] is True
    assert (
        finding["why"] == "powercap package-0, package-0/dram; simulated: the counters are not the kernel's"
    )


def test_a_meter_that_root_alone_may_read_and_one_that_is_not_there(tmp_path: Path) -> None:
    FakePowercap(tmp_path / "tree").make_unreadable("package-0")
    finding = _powercap(tmp_path / "tree")
    assert finding["usable"] is False
    assert "energy_uj is not readable" in str(finding["why"])
    assert "sudo chmod a+r /sys/class/powercap/*/energy_uj" in str(finding["remedy"])
    missing = _powercap(tmp_path / "none")
    assert "No CPU energy counter under" in str(missing["why"])
    assert "sudo modprobe" in str(missing["remedy"])


@pytest.mark.parametrize("word", ["powercap (RAPL)", "battery", "torch", "onnx", "cores", "other processes"])
def test_the_table_names_everything_and_cuts_no_command(word: str, table: str) -> None:
    assert word in table
    assert "…" not in table


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    done = run(root=tmp_path_factory.mktemp("empty") / ("longer-than-a-cell" * 4))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wrong_option_is_wrong_usage(tmp_path: Path) -> None:
    assert run("--nosuch", root=tmp_path).returncode == 2
