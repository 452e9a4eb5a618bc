"""Pictures show the report's figures, and n/a where there is none."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from compressrl.errors import UsageError
from compressrl.pictures import front_panel, plots


def side(mean: float | None) -> dict:
    return {
        "return": {"per_episode": [mean, mean], "mean": mean},
        "model": {"size_bytes": 2048},
        "latency_us": {"p50": 8.0, "p99": 16.0, "reason": ""},
        "energy": {"joules_per_decision": 4e-5, "ci95": [1e-5, 1e-4], "kind": "estimated", "reason": "x"},
        "memory_bytes": {
            "library": 18 << 20, "model": 1 << 20, "runtime": 1 << 20, "peak": 64 << 20,
            "library_share": 0.9, "reason": "", "details": {},
        },
    }  # fmt: skip


def report(compressed: float | None = 90.0) -> dict:
    return {
        "baseline": side(100.0), "compressed": side(compressed), "retention": {"value": None, "ci95": None},
        "request": {"algorithm": "sac", "env_id": "Tiny-v0", "compressor": "qat", "runtime": "onnx"},
        "host": {},
    }  # fmt: skip


def test_bars_are_the_figures() -> None:
    axes = plots.draw(report()).axes
    heights = [[bar.get_height() for bar in a.patches] for a in axes[:4]]
    assert heights[:3] == [[100.0, 90.0], [64.0, 64.0], [8.0, 8.0]]
    assert heights[3] == pytest.approx([40.0, 40.0])
    assert "estimated" in axes[3].get_xticklabels()[0].get_text()
    assert [bar.get_width() for bar in axes[4].patches[:3]] == [18.0, 1.0, 1.0]


def test_what_is_missing_is_no_bar() -> None:
    axes = plots.draw(report(None)).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [100.0]
    assert axes.get_xticklabels()[1].get_text() == "compressed\nn/a"


def test_files_are_valid(tmp_path: Path) -> None:
    plots.save(report(), tmp_path / "a.svg")
    plots.save(report(), tmp_path / "a.png")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_paths_and_documents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="svg or"):
        plots.check_path(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="no report"):
        plots.draw({})


def recommendation(chosen: bool = True) -> dict:
    def candidate(pipeline: str, value: float | None, size: int, **times: float | None) -> dict:
        kept = value and {"value": value, "ci95": [value - 0.01, value + 0.01]}
        variants = [{"runtime": r, "latency_us": {"p50": time}} for r, time in times.items()]
        return {"pipeline": pipeline, "retention": kept, "model": {"size_bytes": size}, "variants": variants}

    shipped = {"pipeline": "qat", "runtime": "native", "retention": {"value": 0.99, "ci95": [0.98, 1.0]}}
    return {
        "candidates": [
            candidate("", 1.0, 4096, onnx=8.0, native=4.0),
            candidate("qat", 0.99, 1024, onnx=9.0, native=2.0),
            candidate("l2", 0.2, 1024, onnx=None),
        ],
        "front": [{"pipeline": "", "runtime": "native"}, {"pipeline": "qat", "runtime": "native"}],
        "chosen": shipped if chosen else None,
        "request": {
            "algorithm": "sac", "env_id": "Tiny-v0", "min_retention": 0.97, "runtimes": ["onnx", "native"],
        },
        "host": {},
    }  # fmt: skip


def test_the_front_is_numbered_and_what_has_no_figure_is_left_out() -> None:
    time, size = (front_panel.points(recommendation(), cost) for cost in ("latency", "size"))
    assert [(p.number, p.cost, p.retention) for p in time] == [
        (None, 8.0, 1.0), (1, 4.0, 1.0), (None, 9.0, 0.99), (2, 2.0, 0.99),
    ]  # fmt: skip
    assert [p.cost for p in size] == [4.0, 4.0, 1.0, 1.0, 1.0]
    assert [p.chosen for p in time] == [False, False, False, True]
    assert [p.original for p in time] == [True, True, False, False]
    assert front_panel.names(recommendation()) == ["1  original, native", "2  qat, native"]


def test_a_recommendation_is_drawn_with_the_intervals_of_the_front_and_a_ring(tmp_path: Path) -> None:
    figure = plots.draw(recommendation())
    whiskers = [line.get_ydata() for line in figure.axes[0].lines if list(line.get_xdata()) == [2.0, 2.0]]
    assert [list(ends) for ends in whiskers] == [[0.98, 1.0]]
    assert "ship qat in native: 99.0% of the return kept" in figure.get_suptitle()
    rings = [c for c in figure.axes[0].collections if c.get_facecolor().size == 0 and c.get_offsets().size]
    assert [ring.get_offsets().tolist() for ring in rings] == [[[2.0, 0.99]]]
    assert "nothing that is compressed" in plots.draw(recommendation(chosen=False)).get_suptitle()
    plots.save(recommendation(), tmp_path / "front.svg")
    assert ElementTree.parse(tmp_path / "front.svg").getroot().tag.endswith("svg")


def test_a_retention_without_a_lower_end_is_drawn_without_an_interval():
    """JSON has no infinity: such an end is null in the report."""
    assert plots._retention({"value": 1.0, "ci95": [None, 1.1]}) == "100.0% of the return kept"
    assert plots._retention({"value": 1.0, "ci95": [0.9, 1.1]}).endswith("kept (90.0% to 110.0%)")
