"""The files of a recommendation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compressrl import files
from compressrl.errors import UsageError
from compressrl.export import export
from compressrl.progress import Progress
from compressrl.recommending.report import Recommendation

REPORT = "recommendation.json"
POLICY = "chosen.policy"
SOURCE = "policy.c"
GRAPH = "policy.onnx"
PICTURE = "front.png"


def write(report: Recommendation, folder: Path, progress: Progress) -> Recommendation:
    """The same report with its files named: the policy to ship, as ONNX and where it can as C; picture.

    What an earlier search shipped is removed first: it may not be what this one recommends.
    """
    for name in (REPORT, POLICY, SOURCE, GRAPH, PICTURE):
        (folder / name).unlink(missing_ok=True)
    written = {"report": str(folder / REPORT)}
    if report.chosen is not None:
        written |= _ship(report, folder, progress)
    written |= _draw(report, folder)
    named = replace(report, files=written)
    files.write_json_atomic(folder / REPORT, named.to_json())
    return named


def _ship(report: Recommendation, folder: Path, progress: Progress) -> dict[str, str]:
    assert report.chosen is not None
    policy = report.chosen.trial.policy
    policy.save(folder / POLICY)
    written = {"policy": str(folder / POLICY)}
    for name, path in (("c", folder / SOURCE), ("onnx", folder / GRAPH)):
        try:
            export(policy, path, seed=report.request.seed, progress=progress)
        except UsageError:  # it has no C form
            continue
        written[name] = str(path)
    return written


def _draw(report: Recommendation, folder: Path) -> dict[str, str]:
    try:
        from compressrl.pictures import plots
    except UsageError:  # no matplotlib
        return {}
    plots.save(report.to_json(), folder / PICTURE)
    return {"picture": str(folder / PICTURE)}
