"""Pictures of reports, drawn from their JSON: of a fresh one, or of a saved `report.json`.

Needs matplotlib (`pip install 'compressrl[plot]'`), and no display: figures are made without pyplot. Colours
are those of Okabe & Ito, which colour-blind people can tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compressrl import files, statistics
from compressrl.errors import UsageError

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise UsageError("Pictures need matplotlib: pip install 'compressrl[plot]'.") from error

from compressrl.pictures import front_panel, plot_panels
from compressrl.pictures.plot_panels import Bar, Stack

SUFFIXES = (".svg", ".png")
MIB = 1 << 20
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
}


def check_path(path: Path) -> None:
    """Raise UsageError where a picture cannot be written to this path."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a picture is named *.svg or *.png.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} of the picture does not exist.")


def save(document: Mapping[str, Any], path: Path) -> None:
    """Draw a report and write it by atomic rename as SVG or PNG (200 dots per inch), by the path's suffix."""
    check_path(path)
    kind = path.suffix.lower().removeprefix(".")
    content = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    figure = draw(document)
    with mpl.rc_context({"svg.hashsalt": "compressrl"}):  # the same report gives the same file
        figure.savefig(content, format=kind, dpi=200, metadata=metadata)
    files.write_bytes_atomic(path, content.getvalue())


def draw(document: Mapping[str, Any]) -> Figure:
    """Draw the JSON of an evaluation, a profile or a recommendation. Raises UsageError for any other."""
    with mpl.rc_context(_STYLE):
        if {"baseline", "compressed", "retention"} <= document.keys():
            return _evaluation(document)
        if {"rows", "models"} <= document.keys():
            return _profile(document)
        if {"candidates", "front", "chosen"} <= document.keys():
            return _recommendation(document)
    raise UsageError("This is no report of `compressrl evaluate`, `profile` or `recommend`.")


def _evaluation(report: Mapping[str, Any]) -> Figure:
    """Draw the four metrics with intervals, memory by stage, and the return of every pair of episodes."""
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 4, height_ratios=(1, 0.85))
    sides = {version: report[version] for version in ("baseline", "compressed")}
    rows = [
        {**side, "version": version, "label": version, "weights": side["model"]["size_bytes"]}
        for version, side in sides.items()
    ]
    episodes = len(sides["baseline"]["return"]["per_episode"])
    several = f"{episodes} episodes, 95 % interval of the mean"
    whisker = several if episodes > 1 else "one episode: no interval"
    plot_panels.bars(figure.add_subplot(grid[0, 0]), "return", whisker, "", _returns(sides))
    peaks = [_peak(row) for row in rows]
    plot_panels.bars(figure.add_subplot(grid[0, 1]), "memory, peak", "range over processes", "MiB", peaks)
    _draw_time_and_energy(figure, (grid[0, 2], grid[0, 3]), rows)
    plot_panels.stacks(figure.add_subplot(grid[1, :2]), [_stack(row) for row in rows])
    pairs = [sides[version]["return"]["per_episode"] for version in sides]
    plot_panels.pairs(figure.add_subplot(grid[1, 2:]), *pairs)
    request = report["request"]
    subject = f"{request['algorithm'] or 'policy'} on {request['env_id']}, {request['compressor']}"
    _frame(figure, f"{subject} in {request['runtime']}: {_retention(report['retention'])}", report["host"])
    return figure


def _profile(report: Mapping[str, Any]) -> Figure:
    """Draw time, energy and memory by stage of every version in every runtime."""
    rows = [
        {
            **row,
            "label": f"{row['version']}\n{row['runtime']}",
            "weights": report["models"][row["version"]]["size_bytes"],
        }
        for row in report["rows"]
    ]
    figure = Figure(figsize=(max(8, 2.2 * len(rows)), 4.5 + 0.45 * len(rows)), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 0.6 + 0.5 * len(rows)))
    _draw_time_and_energy(figure, (grid[0, 0], grid[0, 1]), rows)
    plot_panels.stacks(figure.add_subplot(grid[1, :]), [_stack(row) for row in rows])
    request = report["request"]
    pipeline = f", {request['compressor']}" if request["compressor"] else ""
    _frame(figure, f"{request['algorithm'] or 'policy'} on {request['env_id']}{pipeline}", report["host"])
    return figure


def _recommendation(report: Mapping[str, Any]) -> Figure:
    """Draw retention against inference time and against size, with the front's names beside."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    time, size, beside = figure.subplots(1, 3, width_ratios=(1, 1, 0.5))
    front_panel.draw(time, report, "latency")
    front_panel.draw(size, report, "size")
    beside.axis("off")
    beside.text(0, 1, "\n".join(["Pareto front", *front_panel.names(report)]), va="top", fontsize=8)
    runtimes = time.get_legend_handles_labels()
    beside.legend(*runtimes, loc="lower left", frameon=False, borderpad=0, borderaxespad=0)
    request = report["request"]
    subject = f"{request['algorithm'] or 'policy'} on {request['env_id']}"
    _frame(figure, f"{subject}, {_shipped(report['chosen'])}", report["host"])
    return figure


def _shipped(chosen: Mapping[str, Any] | None) -> str:
    if chosen is None:
        return "nothing that is compressed qualifies"
    what = chosen["pipeline"] or front_panel.ORIGINAL
    return f"ship {what} in {chosen['runtime']}: {_retention(chosen['retention'])}"


def _draw_time_and_energy(figure: Figure, places: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    latency, energy = (figure.add_subplot(place) for place in places)
    plot_panels.bars(latency, "inference time", "median, whisker to p99", "µs", [_latency(r) for r in rows])
    estimated = any(row["energy"]["kind"] == "estimated" for row in rows)
    whisker = "range of the estimate" if estimated else "95 % interval"
    plot_panels.bars(energy, "energy a decision", whisker, "µJ", [_energy(r) for r in rows])


def _returns(sides: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    found = []
    for version, side in sides.items():
        returns = side["return"]["per_episode"]
        if None in returns:
            reason = f"{returns.count(None)} of {len(returns)} returns are not a number"
            found.append(Bar(version, version, None, reason=reason))
            continue
        found.append(Bar(version, version, side["return"]["mean"], statistics.mean_interval(returns)))
    return found


def _peak(row: Mapping[str, Any]) -> Bar:
    memory = row["memory_bytes"]
    ranges = memory["details"].get("ranges")
    return Bar(
        row["label"],
        row["version"],
        None if memory["peak"] is None else memory["peak"] / MIB,
        None if ranges is None else (ranges["peak"][0] / MIB, ranges["peak"][1] / MIB),
        reason=memory["reason"],
    )


def _latency(row: Mapping[str, Any]) -> Bar:
    latency = row["latency_us"]
    p50, p99 = latency["p50"], latency["p99"]
    if p50 is None:
        return Bar(row["label"], row["version"], None, reason=latency["reason"])
    return Bar(row["label"], row["version"], p50, (p50, p99), f"p99 {p99:,.1f}")


def _energy(row: Mapping[str, Any]) -> Bar:
    energy = row["energy"]
    joules, interval = energy["joules_per_decision"], energy["ci95"]
    if joules is None:
        return Bar(row["label"], row["version"], None, reason=energy["reason"])
    whisker = None if interval is None else (interval[0] * 1e6, interval[1] * 1e6)
    return Bar(row["label"], row["version"], joules * 1e6, whisker, energy["kind"])


def _stack(row: Mapping[str, Any]) -> Stack:
    memory, share = row["memory_bytes"], row["memory_bytes"]["library_share"]
    label = row["label"].replace("\n", ", ")
    if share is None:
        return Stack(label, None, memory["reason"])
    stages = {name: memory[name] / MIB for name in ("library", "model", "runtime")}
    return Stack(label, stages, f"library {share:.1%}, weights {row['weights'] / 1024:,.0f} KiB")


def _retention(kept: Mapping[str, Any]) -> str:
    if kept["value"] is None:
        return "retention n/a"
    ends = kept["ci95"] or (None, None)  # an end that is not finite is null
    interval = "" if None in ends else f" ({ends[0]:.1%} to {ends[1]:.1%})"
    return f"{kept['value']:.1%} of the return kept{interval}"


def _frame(figure: Figure, title: str, host: Mapping[str, Any]) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    names = ("torch", "onnxruntime", "compressrl")
    versions = ", ".join(f"{name} {host[name]}" for name in names if host.get(name))
    figure.supxlabel(
        f"{host.get('cpu')}, {host.get('cores')} cores; {versions}", x=0.01, ha="left", fontsize=7
    )
