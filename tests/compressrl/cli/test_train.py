"""`compressrl train` with many seeds, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from compressrl.cli import app
from compressrl.training import CHECKPOINT

RUN = ("train", "--algo", "ddpg:hidden=8,batch_size=16,learning_starts=50", "--env", "Pendulum-v1")


@pytest.mark.parametrize("text", ["", "3", "3..1", "a..b", "-1..2", "0..1..2", "0..4294967296"])
def test_what_is_no_range_of_seeds_is_refused(text: str) -> None:
    result = CliRunner().invoke(app, [*RUN, f"--seeds={text}"])
    assert result.exit_code == 2
    assert "0..9" in result.stderr


def test_one_seed_and_several_do_not_go_together() -> None:
    result = CliRunner().invoke(app, [*RUN, "--seeds=0..1", "--seed=3"])
    assert result.exit_code == 2
    assert "leave one of them out" in result.stderr


def test_ctrl_c_prints_the_command_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("compressrl.many_runs.train", interrupted)
    out = tmp_path / "my runs"
    words = [*RUN, "--steps=100", "--seeds=2..3", f"--out={out}"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert result.stderr == "Interrupted.\n", "there is nothing yet that could be gone on with"
    (out / "seed3").mkdir(parents=True)
    (out / "seed3" / CHECKPOINT).touch()
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert f"The runs are in {out}; this goes on:" in result.stderr
    assert f"--steps 100 --seeds 2..3 --out '{out}'" in result.stderr.replace("\n", "")


@pytest.mark.slow
def test_the_records_of_all_seeds_are_one_json_value(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*RUN, "--steps=100", "--seeds=2..3", f"--out={tmp_path}", "--json"])
    assert result.exit_code == 0, result.stderr
    records = json.loads(result.stdout)
    assert [(record["seed"], Path(record["path"]).parent) for record in records] == [
        (seed, tmp_path / f"seed{seed}") for seed in (2, 3)
    ]


@pytest.mark.slow
def test_two_threads_train_what_one_does(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    records, used, policies = [], [], []
    try:
        for threads in (1, 2):
            out = f"--out={tmp_path / str(threads)}"
            run = ["train", "--algo=ddpg:hidden=64,learning_starts=50", "--env=Pendulum-v1", "--steps=100"]
            result = CliRunner().invoke(app, [*run, f"--threads={threads}", out, "--json"])
            records.append(json.loads(result.stdout))
            used.append(torch.get_num_threads())
            policies.append(Path(records[-1]["path"]).read_bytes())
    finally:
        torch.set_num_threads(before)
    assert used == [1, 2] == [record["threads"] for record in records]
    assert [record["command"].endswith(" --threads 2") for record in records] == [False, True]
    assert policies[0] == policies[1]
