"""From a study's folder to its page, Markdown and CSV files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from compressrl.errors import UsageError
from compressrl.study.report import writing
from compressrl.study.store import Store


@pytest.fixture
def folder(tmp_path, done, study_of):
    """A study of an installed policy with one finished cell of two."""
    outcome = done("sac", "HalfCheetah-v5", "ptdq")
    store = Store(tmp_path / "study")
    store.create(study_of(outcome), toml="")
    store.write(outcome)
    return store.folder


def test_page_markdown_and_tables_stand_in_the_folder(folder):
    written = writing.write(folder)
    assert written.html == folder / "report.html"
    assert "1 of 2 cells are done." in written.html.read_text()
    assert "1 of 2 cells are done." in written.markdown.read_text()
    assert {path.stem for path in written.tables} == {table.name for table in written.page.all_tables}
    with (folder / "report_tables" / "returns.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["algorithm"], row["environment"], float(row["ptdq retention"])) == (
        "sac",
        "HalfCheetah-v5",
        1,
    )


def test_another_page_can_be_named(folder, tmp_path):
    written = writing.write(folder, tmp_path / "elsewhere" / "mine.html")
    assert written.html.exists()
    assert written.markdown == tmp_path / "elsewhere" / "mine.md"
    assert written.tables[0].parent == tmp_path / "elsewhere" / "mine_tables"
    assert not (folder / "report.html").exists()


def test_the_same_study_gives_the_same_files(folder):
    first = writing.write(folder).html.read_bytes()
    assert writing.write(folder).html.read_bytes() == first


def test_published_values_are_those_that_the_study_brought(folder):
    published = {"name": "a paper", "tables": {"returns": {"title": "Table 9", "note": "", "values": {}}}}
    (folder / "reference.json").write_text(json.dumps(published))
    assert "Table 9" in writing.write(folder).html.read_text()


def test_a_policy_that_nobody_has_trained_comes_with_its_command(tmp_path, done, study_of):
    store = Store(tmp_path / "study")
    store.create(study_of(done("trpo", "Pendulum-v1", "ptdq")), toml="")
    text = writing.write(store.folder).markdown.read_text()
    assert "2 without a trained policy" in text
    assert "compressrl train --algo trpo --env Pendulum-v1" in text


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not the folder of a study"):
        writing.write(tmp_path)


def test_a_page_is_named_html(folder, tmp_path):
    with pytest.raises(UsageError, match="--out"):
        writing.write(folder, tmp_path / "page.pdf")
    assert not (tmp_path / "page.md").exists()


def test_a_failed_cell_is_told(folder, undone):
    store = Store(folder)
    failed = undone("sac", "HalfCheetah-v5", "", "failed", "it broke")
    store.write(
        replace(failed, cell=next(cell for cell in store.study().cells if not cell.compressor), key="1" * 16)
    )
    assert "it broke" in writing.write(folder).markdown.read_text()
