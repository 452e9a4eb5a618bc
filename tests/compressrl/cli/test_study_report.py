"""`compressrl study report` as a newcomer meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compressrl.cli import app
from compressrl.study.grid import Study, Subject
from compressrl.study.store import Store

STATEMENT = {"fails": "from", "level": 0.5, "nearest": 0.5, "methods": ["l1"], "claimed": 0.8}
REFERENCE = {"name": "a paper", "claims": [{"text": "It works", "statements": [STATEMENT]}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of which nothing has run, with a claim to judge."""
    store = Store(tmp_path / "study")
    store.create(Study("trial", (Subject("sac", "HalfCheetah-v5"),), ("", "ptdq"), ("onnx",), 1, 3), toml="")
    (store.folder / "reference.json").write_text(json.dumps(REFERENCE))
    return store.folder


def run(*words: object):
    return CliRunner().invoke(app, ["study", "report", *map(str, words)])


def test_it_prints_the_verdicts_and_says_where_the_page_is(folder):
    result = run(folder)
    assert result.exit_code == 0
    assert result.stdout == "cannot be told yet: It works\n"
    assert f"Page: {folder / 'report.html'}" in result.stderr
    assert (folder / "report.html").exists()


def test_json_is_one_value_on_stdout(folder):
    result = run(folder, "--json")
    document = json.loads(result.stdout)
    assert document["html"] == str(folder / "report.html")
    assert all(Path(path).exists() for path in [document["markdown"], *document["tables"]])
    assert document["verdicts"][0]["answer"] == "cannot be told yet"
    assert document["verdicts"][0]["counts"][0]["share"] is None


def test_out_names_the_page(folder, tmp_path):
    assert run(folder, "--out", tmp_path / "mine.html").exit_code == 0
    assert (tmp_path / "mine.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [(["no_such_folder"], "not the folder of a study"), (["{folder}", "--out", "page.txt"], "--out")],
)
def test_wrong_usage_is_one_line(folder, words, said):
    result = run(*(word.format(folder=folder) for word in words))
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
