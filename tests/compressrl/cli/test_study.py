"""`compressrl study`, as people and other programs use it."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from compressrl.study.store import Store


@pytest.fixture
def compressrl(log):
    """Runs `compressrl study ...` in a process of its own, as a shell would."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"}

    def start(*words, **options) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "compressrl", "study", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=log.parent,
            **options,
        )  # fmt: skip

    def run(*words, code: int = 0, **options) -> tuple[str, str]:
        process = start(*words, **options)
        output, errors = process.communicate(timeout=400)
        assert process.returncode == code, errors
        return output, errors

    run.start = start
    return run


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def finished(folder) -> int:
    return len(list(folder.glob("cells/*.json")))


def kill_after_a_cell(process, folder) -> None:
    already = finished(folder)
    wait_for(lambda: finished(folder) > already or process.poll() is not None)
    assert process.poll() is None, "it had nothing left to be killed in"
    process.kill()
    process.communicate()


def returns(folder) -> dict:
    return {
        outcome.cell: (
            outcome.status,
            outcome.report["baseline"]["return"],
            outcome.report["compressed"]["return"],
        )
        for outcome in Store(folder).outcomes()
    }


@pytest.mark.slow
def test_run_status_and_export(compressrl, write, log):
    path, out = write(compressors=["noting"], repeats=1), log.parent / "out"
    dry, _ = compressrl("run", path, "--out", out, "--dry-run", "--json")
    assert {key: json.loads(dry)[key] for key in ("cells", "left", "seconds_left")} == {
        "cells": 4, "left": 4, "seconds_left": None,
    }  # fmt: skip
    assert not out.exists()
    output, errors = compressrl("run", path, "--out", out, "--workers", 1)
    assert output == (
        "small: 4 cells; 4 done, 0 failed, 0 missing, 0 left.\n"
        f"What came out: compressrl study report {out}\n"
    )
    assert [line.partition("] ")[2].split()[0] for line in errors.splitlines()] == [
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]
    assert "another process" not in errors
    before = log.read_text()
    compressrl("run", path, "--out", out)
    assert log.read_text() == before, "finished cells do not run again"
    standing = json.loads(compressrl("status", out, "--json")[0])
    assert (standing["done"], standing["left"], standing["seconds_left"]) == (4, 0, 0)
    compressrl("export", out, "--to", log.parent / "cells.csv")
    with (log.parent / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    reports = [outcome.report for outcome in Store(out).outcomes()]
    assert [float(r["compressed_return_mean"]) for r in rows] == [
        r["compressed"]["return"]["mean"] for r in reports
    ]
    assert [r["compressor"] for r in rows] == ["", "noting"] * 2
    assert {r["non_inferior"] for r in rows} == {"False"}, "so few episodes that are the same prove nothing"


def test_parquet_holds_the_same_as_csv(prepare, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    from compressrl.study import cells_table, jobs

    _, planned = prepare(compressors=["noting"])
    outcomes = [jobs.run(planned[0]), planned[1].failed("no way")]
    tables = []
    for name, read in (("x.csv", pandas.read_csv), ("x.parquet", pandas.read_parquet)):
        cells_table.check(tmp_path / name)
        cells_table.write(tmp_path / name, outcomes)
        tables.append(read(tmp_path / name))
    assert list(tables[0].columns) == list(tables[1].columns) == list(cells_table.COLUMNS)
    assert tables[1]["retention"].tolist()[0] == tables[0]["retention"].tolist()[0] == 1.0
    assert tables[1]["status"].tolist() == ["done", "failed"]
    assert tables[1]["retention"].isna().tolist() == [False, True]


@pytest.mark.slow
def test_failed_cells_are_told_and_run_again_by_retry_alone(compressrl, write, log):
    path, out = write(compressors=["noting:fails=true"]), log.parent / "out"
    (log.parent / "broken").touch()
    output, _ = compressrl("run", path, "--out", out, code=1)
    assert "4 cells; 2 done, 2 failed" in output
    assert "failed tiny0 compressrl.testing:Tiny-v0 noting:fails=true onnx #0" in output
    assert "ValueError: no way" in output
    assert f"compressrl study retry {out}" in output
    compressrl("run", path, "--out", out, code=1)
    assert len(log.read_text().splitlines()) == 2, "run leaves failed cells alone"
    (log.parent / "broken").unlink()
    output, _ = compressrl("retry", out)
    assert "4 done, 0 failed" in output
    assert len(log.read_text().splitlines()) == 4


@pytest.mark.slow
def test_an_interrupted_retry_keeps_what_failed_and_goes_on_by_the_same_command(compressrl, write, log):
    path, out = write(compressors=["noting:fails=true,seconds=2"]), log.parent / "out"
    (log.parent / "broken").touch()
    compressrl("run", path, "--out", out, "--workers", "2", code=1)
    next(cell for cell in out.glob("cells/*.json") if '"done"' in cell.read_text()).unlink()
    process = compressrl.start("retry", out, "--workers", "1", start_new_session=True)
    wait_for(lambda: len(log.read_text().splitlines()) > 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "The same command goes on with the rest." in errors
    standing = json.loads(compressrl("status", out, "--json")[0])
    assert [standing[word] for word in ("done", "failed", "left")] == [1, 2, 1]
    (log.parent / "broken").unlink()
    output, _ = compressrl("retry", out)
    assert "4 cells; 3 done, 0 failed, 0 missing, 1 left." in output, "retry runs what failed, nothing else"


@pytest.mark.slow
def test_another_study_takes_finished_cells_over(compressrl, write, log):
    compressrl("run", write(compressors=["noting"]), "--out", log.parent / "one")
    wider = write("wider", compressors=["noting", "noting:seconds=0.1"])
    output, _ = compressrl("run", wider, "--out", log.parent / "two", "--dry-run")
    assert "6 cells; 4 done, 0 failed, 0 missing, 2 left" in output
    assert "study report" not in output, "there is no folder yet"
    output, _ = compressrl("run", wider, "--out", log.parent / "two")
    assert "4 of them were run by other studies and are taken over." in output
    assert Counter(line.partition("Noting")[2] for line in log.read_text().splitlines()) == {
        "(seconds=0.0, deaths=0, fails=False)": 2,
        "(seconds=0.1, deaths=0, fails=False)": 2,
    }
    assert finished(log.parent / "two") == 6


@pytest.mark.slow
def test_a_damaged_cell_is_said_and_run_again(compressrl, write, log):
    path, out = write(compressors=["noting"], policies=["tiny0.policy"]), log.parent / "out"
    compressrl("run", path, "--out", out)
    damaged = next(iter(out.glob("cells/*.json")))
    damaged.write_text(damaged.read_text()[:100])
    for cached in (log.parent / "cache" / "study" / "cells").iterdir():
        cached.unlink()
    _, errors = compressrl("run", path, "--out", out)
    assert f"set aside, its cell is run again: {out}/cells/damaged/{damaged.name}" in errors
    assert finished(out) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "papper"], "Unknown study 'papper'."),
        (["run", "bad.toml"], "bad.toml:2: compressors: Unknown compressor 'gone'."),
        (["run", "good.toml", "--address", "auto"], "--address goes with --executor ray."),
        (["run", "good.toml", "--quick"], "has no [quick] table"),
        (["status", "."], "not the folder of a study"),
        (["export", ".", "--to", "x.xlsx"], "Unknown suffix of --to '.xlsx'"),
    ],
)
def test_wrong_usage_is_one_line_and_runs_nothing(compressrl, write, log, words, message):
    good = write("good")
    (log.parent / "bad.toml").write_text(good.read_text().splitlines()[0] + '\ncompressors = ["gone"]\n')
    output, errors = compressrl(*words, code=2)
    assert output == ""
    assert errors.startswith("error: ")
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not log.exists()


@pytest.mark.slow
def test_a_full_disk_stops_with_one_line_and_a_sound_folder(compressrl, write, log):
    path, out = write(compressors=["noting"]), log.parent / "out"
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))}
    _, errors = compressrl("run", path, "--out", out, code=1, **full)
    assert errors.splitlines()[-1].startswith("error: ")
    assert "cannot be written: File too large." in errors.splitlines()[-1]
    assert finished(out) == 0
    assert not list(out.glob("cells/.*")), "no half-written file is left"
    output, _ = compressrl("run", path, "--out", out)
    assert "4 done" in output


@pytest.mark.slow
def test_ctrl_c_stops_at_once_and_says_how_to_go_on(compressrl, write, log):
    path, out = write(compressors=["noting", "noting:seconds=100"], repeats=1), log.parent / "out"
    process = compressrl.start("run", path, "--out", out, "--workers", "2", start_new_session=True)
    wait_for(lambda: log.exists() and "seconds=100" in log.read_text() and finished(out) >= 2)
    before = finished(out)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < 20, "it waits for no cell"
    assert process.returncode == 1
    assert f"of 6 cells are done and safe in {out}. The same command goes on with the rest." in errors
    assert "Traceback" not in errors
    assert finished(out) >= before
    assert json.loads(compressrl("status", out, "--json")[0])["done"] == finished(out)


@pytest.mark.slow
def test_two_processes_share_a_folder(compressrl, write, log):
    path, out = write(compressors=[f"noting:seconds=0.{n}" for n in range(1, 7)]), log.parent / "out"
    both = [compressrl.start("run", path, "--out", out, "--workers", "2", "--json") for _ in range(2)]
    standings = [json.loads(process.communicate(timeout=200)[0]) for process in both]
    assert [(s["done"], s["left"]) for s in standings] == [(14, 0)] * 2
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 12, "no cell ran twice"


@pytest.mark.slow
def test_what_another_process_leaves_when_it_is_killed_is_taken_over(compressrl, write, log):
    path, out = write(compressors=["noting:seconds=3"]), log.parent / "out"
    first = compressrl.start("run", path, "--out", out, "--workers", "2")
    wait_for(lambda: log.exists() and log.read_text())
    second = compressrl.start("run", path, "--out", out, "--workers", "2")
    time.sleep(1)
    first.kill()
    first.communicate()
    output, _ = second.communicate(timeout=100)
    assert "4 done" in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_ten_times_it_ends_with_what_an_undisturbed_run_gives(compressrl, write, log):
    compressors = ["noting:seconds=0.3", "l1:ratio=0.2..0.4/0.2,preset=paper"]
    path = write(compressors=compressors, repeats=3)
    killed, calm = log.parent / "killed", log.parent / "calm"
    for _ in range(10):
        kill_after_a_cell(compressrl.start("run", path, "--out", killed, "--workers", "2"), killed)
    compressrl("run", path, "--out", killed)
    assert not list(killed.glob("cells/damaged/*"))
    for cached in (log.parent / "cache" / "study" / "cells").iterdir():
        cached.unlink()
    compressrl("run", path, "--out", calm)
    assert len(returns(calm)) == 24
    assert returns(killed) == returns(calm)
