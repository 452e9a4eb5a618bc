"""Trials on disk: what an interrupted search has compressed and played, the next one does not do again."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import compressrl
from compressrl import files, plugins
from compressrl.policy import Policy
from compressrl.recommending.candidates import Candidate, Trial


@dataclass(frozen=True)
class Saved:
    """What is kept of a trial; the fields are those of `Trial`."""

    policy: Policy
    seconds: float
    environment_steps: int
    returns: tuple[float, ...]


@dataclass(frozen=True)
class Archive:
    """A policy file and a record for each trial, named by what the trial was made from.

    folder:   None keeps nothing
    identity: of the original policy, environment, algorithm, seed and runtimes
    """

    folder: Path | None
    identity: str

    def load(self, candidate: Candidate) -> Saved | None:
        """The trial of this candidate as it was last saved, or None."""
        path = self._path(candidate)
        if path is None or not path.exists():
            return None
        record = json.loads(path.read_text())
        policy = Policy.load(path.with_suffix(".policy"))
        return Saved(policy, record["seconds"], record["environment_steps"], tuple(record["returns"]))

    def save(self, trial: Trial) -> None:
        """Keep this trial; not the returns of one that breaks down: JSON has no NaN."""
        path = self._path(trial.candidate)
        if path is None or not all(map(math.isfinite, trial.returns)):
            return
        if not path.exists():
            trial.policy.save(path.with_suffix(".policy"))
        record = {
            "pipeline": trial.candidate.pipeline,
            "seconds": trial.seconds,
            "environment_steps": trial.environment_steps,
            "returns": trial.returns,
        }
        files.write_json_atomic(path, record)

    def _path(self, candidate: Candidate) -> Path | None:
        """By the pipeline and all that shapes its result, the versions of its plugins among it."""
        if self.folder is None:
            return None
        names = [plugins.parse(stage.text)[0] for stage in candidate.stages]
        owners = [str(plugins.registry().get("compressor", name).owner) for name in names]
        made_from = json.dumps([self.identity, candidate.pipeline, owners, compressrl.__version__])
        digest = hashlib.sha256(made_from.encode()).hexdigest()[:12]
        readable = "".join(c if c.isalnum() or c in "+=" else "-" for c in candidate.label)
        return self.folder / f"{readable[:80]}_{digest}.json"
