"""The files of a recommendation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compressrl import files
from compressrl.errors import NoCFormError, UsageError
from compressrl.export import export
from compressrl.progress import Progress
from compressrl.recommending.report import Recommendation

REPORT = "recommendation.json"
POLICY = "chosen.policy"
SOURCE = "policy.c"
GRAPH = "policy.onnx"
PICTURE = "front.png"


def check(folder: Path, candidates: str, policy: str) -> None:
    """Raise UsageError where files that nobody has recommended, or the policy itself, would be replaced.

    candidates: name of the folder that an earlier search has left in it
    """
    names = (POLICY, SOURCE, GRAPH, PICTURE)
    ours = (folder / REPORT).exists() or (folder / candidates).exists()
    found = [name for name in names if (folder / name).exists()]
    if found and not ours:
        raise UsageError(
            f"{folder} holds {found[0]}, which is not of an earlier recommendation, and would be replaced. "
            "Choose another --out."
        )
    files.refuse_to_replace(policy, *(folder / name for name in names))


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
            export(policy, path, env_id=report.request.env_id, seed=report.request.seed, progress=progress)
        except NoCFormError:
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
