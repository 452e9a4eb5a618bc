"""The episodes as a file that pandas reads: every row, every unit, nothing half written."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from compressrl import statistics
from compressrl.episodes import episodes_table
from compressrl.errors import CompressrlError, UsageError
from compressrl.measuring.step_costs import EpisodeCost
from compressrl.records import (
    Energy,
    EpisodeRecords,
    EvaluationReport,
    EvaluationRequest,
    Latency,
    Memory,
    ModelSize,
    Side,
)

READERS = {".csv": arrow_csv.read_csv, ".parquet": parquet.read_table}


def cost(steps: int, joules: float | None = None) -> EpisodeCost:
    counters = {"cpu_s": 0.25, "energy_J": joules, "memory_B": 3e8}
    return EpisodeCost(steps, True, 0.5, 0.125, 0.0625, counters)


def side(returns: tuple[float, ...], costs: tuple[EpisodeCost, ...]) -> Side:
    seeds = tuple(7 + i for i in range(len(returns)))
    return Side(
        policy_provenance=("made",),
        runtime="onnx",
        episodes=EpisodeRecords(seeds, returns, tuple(10 * s for s in seeds), (0.1,) * len(seeds), costs),
        iqm_return=0.0,
        iqm_ci95=None,
        model=ModelSize(1, 4, 4, 4, 32, 1.0),
        latency=Latency(),
        energy=Energy(None, None, "unavailable", ""),
        memory=Memory(None, None, None, None),
    )


def report(base: Side, comp: Side) -> EvaluationReport:
    return EvaluationReport(
        request=EvaluationRequest("sac", "Tiny-v0", "l2:ratio=0.5+ptsq", "onnx"),
        baseline=base,
        compressed=comp,
        retention=statistics.retention(base.episodes.returns, comp.episodes.returns, random_return=0.0),
        overhead_ns_per_step=900.0,
        spent={},
        host={},
    )


REPORT = report(
    side((1.5, 2.5), (cost(70, 3.5), cost(80))), side((1.0, -2.0), (cost(70, 0.5), cost(80, 0.25)))
)


@pytest.mark.parametrize("suffix", READERS)
def test_one_row_an_episode_and_side(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"runs{suffix}"
    episodes_table.write(path, REPORT)
    table = READERS[suffix](path).to_pydict()

    assert table == {
        "side": ["baseline", "baseline", "compressed", "compressed"],
        "algorithm": ["sac"] * 4,
        "env_id": ["Tiny-v0"] * 4,
        "compressor": ["", "", "l2:ratio=0.5+ptsq", "l2:ratio=0.5+ptsq"],
        "runtime": ["onnx"] * 4,
        "episode_seed": [7, 8, 7, 8],
        "return": [1.5, 2.5, 1.0, -2.0],
        "length_steps": [70, 80, 70, 80],
        "action_change_per_step": [0.1] * 4,
        "environment_seconds": [0.5] * 4,
        "policy_seconds": [0.125] * 4,
        "instrumentation_seconds": [0.0625] * 4,
        "cpu_seconds": [0.25] * 4,
        "energy_joules": [3.5, None, 0.5, 0.25],
        "memory_peak_bytes": [3e8] * 4,
    }
    assert list(table) == list(episodes_table.COLUMNS)


def test_a_column_that_was_never_read_keeps_its_type(tmp_path: Path) -> None:
    path = tmp_path / "runs.parquet"
    episodes_table.write(path, report(side((1.0,), ()), side((1.0,), ())))
    table = parquet.read_table(path)
    assert str(table.schema.field("energy_joules").type) == "double"
    assert table["energy_joules"].null_count == 2


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_returns_come_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, returns: list[float]) -> None:
    folder = tmp_path_factory.mktemp("table")
    one = side(tuple(returns), (cost(1),) * len(returns))
    for suffix in READERS:
        episodes_table.write(folder / f"x{suffix}", replace(REPORT, baseline=one, compressed=one))
    assert parquet.read_table(folder / "x.parquet")["return"].to_pylist() == returns * 2
    with (folder / "x.csv").open(newline="") as file:
        assert [float(row["return"]) for row in csv.DictReader(file)] == returns * 2


@pytest.mark.parametrize("name", ["runs.json", "runs", "runs.PARQUET", "runs.csv.gz"])
def test_an_unknown_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"suffix of --episodes-file.*Known: \.csv, \.parquet"):
        episodes_table.check(tmp_path / name)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="another --episodes-file"):
        episodes_table.check(tmp_path / "file" / "runs.csv")
    (tmp_path / "runs.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        episodes_table.check(tmp_path / "runs.csv")


def test_parquet_without_its_library_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'compressrl\[parquet\]'"):
        episodes_table.check(tmp_path / "runs.parquet")
    episodes_table.check(tmp_path / "runs.csv")


@pytest.mark.parametrize("suffix", READERS)
def test_an_older_file_stays_whole_when_writing_fails(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"runs{suffix}"
    path.write_text("older")
    broken = replace(REPORT, request=replace(REPORT.request, algorithm=Unwritable()))  # type: ignore[arg-type]
    with pytest.raises((CompressrlError, ZeroDivisionError, TypeError)):
        episodes_table.write(path, broken)
    assert path.read_text() == "older"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


class Unwritable:
    def __str__(self) -> str:
        raise ZeroDivisionError
