"""`compressrl profile`: its tables, and its one JSON object."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from compressrl.cli import app, profile_table
from compressrl.measuring.profiling import ProfileReport, ProfileRequest, ProfileRow, Skipped
from compressrl.measuring.workloads import Measured
from compressrl.records import Energy, Latency, Memory, ModelSize
from compressrl.testing import tiny_policy


def row(version: str, runtime: str, p50_us: float | None, memory: Memory) -> ProfileRow:
    energy = Energy(5e-5, (1e-5, 2e-4), "estimated", "CPU time", "no meter here", 1.25e-5)
    latency = Latency(p50_us, 2 * p50_us, p50_us, 10) if p50_us else Latency(reason="no clock")
    return ProfileRow(version, runtime, Measured(latency, energy, memory))


REPORT = ProfileReport(
    request=ProfileRequest("sac", "Tiny-v0", "", "qat", ("onnx", "torch"), 0, ()),
    models={
        "baseline": ModelSize(9, 4096, 4096, 4096, 32, 1.0),
        "compressed": ModelSize(9, 1024, 1, 1, 8, 1),
    },
    rows=(
        row("baseline", "onnx", 8.0, Memory(18 << 20, 1 << 20, 1 << 20, 64 << 20)),
        row("baseline", "torch", 20.0, Memory(None, None, None, None, reason="no /proc")),
        row("compressed", "onnx", None, Memory(18 << 20, 1 << 20, 1 << 20, 64 << 20)),
    ),
    skipped=(Skipped("compressed", "torch", "only floats: pip install 'compressrl[litert]'"),),
    host={},
)


def test_tables_show_every_figure_with_its_unit_and_what_is_missing() -> None:
    stream = io.StringIO()
    profile_table.show(REPORT, Console(file=stream, width=90))
    text = stream.getvalue()
    lines = {tuple(line.split()[:2]): line for line in reversed(text.splitlines()) if line.strip()}
    assert "sac on Tiny-v0  (weights 4.0 KiB, qat 1.0 KiB)" in text
    assert lines["baseline", "onnx"].split()[2:] == [
        "8.0",
        "16.0",
        "1.00",
        "12.5",
        "µs",
        "50.0",
        "µJ,",
        "estimated",
    ]
    assert lines["baseline", "torch"].split()[2:5] == ["20.0", "40.0", "2.50"]
    assert lines["compressed", "onnx"].split()[2:5] == ["n/a", "n/a", "n/a"]
    assert "18.0 MiB  1.0 MiB  1.0 MiB" in text
    assert "90.0%  64.0 MiB" in text
    # What stands in brackets is text, not markup.
    assert "Not in torch (compressed): only floats: pip install 'compressrl[litert]'" in text
    assert text.count("Energy is estimated: no meter here") == 1
    assert "Memory: no /proc" in text
    assert "Latency: no clock" in text


def test_json_is_the_only_thing_on_stdout(tmp_path: Path) -> None:
    tiny_policy().save(tmp_path / "tiny.policy")
    options = ("--profiler", "memory:repeats=1", "--profiler", "energy:windows=2", "--json")
    words = ["profile", "--policy", str(tmp_path / "tiny.policy"), "--runtime", "onnx", *options]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert [(r["version"], r["runtime"]) for r in document["rows"]] == [("baseline", "onnx")]
    assert document["rows"][0]["memory_bytes"]["details"]["repeats"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--algo", "sac", "--runtime", "onyx"], "Did you mean 'onnx'"),
        (["--algo", "sac", "--compressor", "ptdk"], "Did you mean 'ptdq'"),
        (["--runtime", "onnx"], "Say which policy"),
        (["--algo", "sac", "--profiler", "memory:repeats=0"], "repeats"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["profile", *words])
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
