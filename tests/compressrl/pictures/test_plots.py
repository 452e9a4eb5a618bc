"""Pictures show the report's figures, and n/a where there is none."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from compressrl.errors import UsageError
from compressrl.pictures import plots


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
