"""`compressrl recommend`: its table, its verdict, its one JSON object, and Ctrl-C."""

from __future__ import annotations

import io
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from compressrl.cli import app, recommend_table
from compressrl.recommending.recommendation import recommend
from compressrl.recommending.report import Recommendation
from compressrl.testing import tiny_policy


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recommend") / "tiny.policy"
    tiny_policy().save(path)
    return path


def run(path: Path, *words: str) -> Result:
    quick = ("--runtime", "onnx", "--episodes", "20", "--objective", "size")
    out = () if "--out" in words else ("--out", str(path.parent / "out"))
    return CliRunner().invoke(app, ["recommend", "--policy", str(path), *quick, *out, *words])


def shown(report: Recommendation, *, verbose: bool = False) -> str:
    stream = io.StringIO()
    recommend_table.show(report, verbose=verbose, console=Console(file=stream, width=80))
    return stream.getvalue()


def test_json_is_the_only_thing_on_stdout(path: Path) -> None:
    result = run(path, "--candidates", "ptsq", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["chosen"]["pipeline"] == "ptsq"


def test_policies_of_one_name_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        Path(str(seed)).mkdir()
        tiny_policy(seed=seed).save(Path(str(seed)) / "final.policy")
        words = ["recommend", "--policy", f"{seed}/final.policy", "--candidates", "ptsq", "--episodes", "2"]
        result = CliRunner().invoke(app, [*words, "--runtime", "onnx", "--objective", "size", "--json"])
        assert result.exit_code in (0, 1)
        assert json.loads(result.stdout)["request"]["env_id"] == tiny_policy().env_id
    folders = sorted(path.name for path in Path("runs/recommend").iterdir())
    assert len(folders) == 2
    assert all(name.startswith("final-") for name in folders)


def test_the_table_fits_a_terminal_and_marks_what_to_ship(path: Path) -> None:
    report = recommend(
        policy=path,
        candidates=["ptsq", "ptsq:bits=2,bias_correction=true"],
        runtimes=["onnx"],
        episodes=20,
        objective="size",
    )
    text = shown(report)
    assert max(map(len, text.split("pipelines tried")[0].splitlines())) <= 80
    (ship,) = (line for line in text.splitlines() if line.split()[-1:] == ["ship"])
    assert ship.split()[:2] == ["ptsq", "onnx"]
    (lost,) = (line for line in text.splitlines() if "ptsq:bits=2" in line)
    assert lost.split()[-1] == "lost"
    assert "2 pipelines tried in 1 runtimes, 1 dropped early" in text
    assert "Verdict: ship ptsq, in onnx. It keeps" in text
    assert "x smaller and" in text
    assert "dropped: after 10 episodes it keeps at most" in shown(report, verbose=True)


def test_nothing_to_ship_is_exit_code_1_and_says_what_it_would_take(path: Path) -> None:
    result = run(path, "--candidates", "ptsq:bits=2")
    assert result.exit_code == 1
    assert "Closest is ptsq:bits=2" in result.stdout
    assert "--min-retention 0." in result.stdout
    assert " ship \n" not in result.stdout


def test_a_retention_without_a_lower_end_suggests_no_minimum(path: Path) -> None:
    """Of a baseline that may earn nothing."""
    report = recommend(
        policy=path, candidates=["ptsq:bits=2"], runtimes=["onnx"], episodes=2, objective="size"
    )
    unknown = replace(report.trials[1].retention, value=1.0, ci95=(-math.inf, 1.2))
    trials = (report.trials[0], replace(report.trials[1], retention=unknown))
    verdict = recommend_table.verdict(replace(report, chosen=None, confirmations={}, trials=trials))
    assert verdict.endswith("with 100.0% (nobody knows to 120.0%): more episodes will not do.")


def test_the_original_is_named_where_there_is_nothing_to_gain(path: Path) -> None:
    report = recommend(policy=path, candidates=["ptdq"], runtimes=["onnx"], episodes=10)
    assert recommend_table.verdict(report).startswith(
        "Verdict: ship the original, in onnx. Compression gains nothing"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--objective", "beauty"], "choose one of latency"),
        (["--candidates", "ptdk"], "Did you mean 'ptdq'"),
        (["--min-retention", "97"], "a share above 0"),
        (["--plot", "front.jpg"], "svg or"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(path: Path, words: list[str], said: str) -> None:
    result = run(path, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1


def test_ctrl_c_keeps_what_is_finished_and_says_where(path: Path, tmp_path: Path) -> None:
    words = [
        "recommend",
        "--policy",
        str(path),
        "--out",
        str(tmp_path),
        "--candidates",
        "ptdq",
        "--candidates",
        "qat",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "compressrl", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("candidates/ptdq*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert f"Finished candidates are in {tmp_path}" in errors
    assert json.loads(next(tmp_path.glob("candidates/ptdq*.json")).read_text())["returns"]
