"""Pipelines: `l2:ratio=0.5+distill+ptsq` -> compressors in a row, run in a Lab."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from compressrl import files, plugins
from compressrl.errors import CompressrlError, PipelineError, UsageError, one_line
from compressrl.interfaces import Compressor
from compressrl.lab import Lab
from compressrl.policy import Policy
from compressrl.progress import Progress, silent


@dataclass(frozen=True)
class Stage:
    """One compressor of a pipeline and the text that named it."""

    text: str
    compressor: Compressor


def parse(text: str) -> list[Stage]:
    """Construct every stage of `name:key=value+name+...`, so that a mistake in the last one shows at once.

    Raises OptionError, UnknownNameError, and PipelineError for an order that cannot work.
    """
    parts = plugins.split(text)
    if not all(parts):
        raise PipelineError(f"The pipeline {text!r} has an empty stage. Write e.g. l2:ratio=0.5+ptsq.")
    stages = [Stage(part, plugins.create("compressor", part)) for part in parts]
    _refuse_impossible_order(stages)
    return stages


def run(stages: list[Stage], policy: Policy, lab: Lab) -> Policy:
    """Run the stages in order, each on the result of the one before.

    Raises PipelineError, naming the stage, when one cannot take what the previous one made, or returns
    a policy for other spaces; UsageError for a policy that holds NaN or infinity.
    """
    policy.refuse_not_finite()
    for number, stage in enumerate(stages, start=1):
        where = f"stage {number} of {len(stages)}, {stage.text!r}"
        lab.progress(f"compressing: {stage.text}", 0, 1)
        try:
            result = stage.compressor.compress(policy, lab)
            _check_result(result, policy)
        except PipelineError as error:
            raise PipelineError(f"The pipeline fails at {where}: {error}") from error
        except CompressrlError:
            raise
        except Exception as error:  # a compressor is anybody's code
            raise CompressrlError(f"The pipeline fails at {where}: {one_line(error)}.") from error
        lab.progress(f"compressing: {stage.text}", 1, 1)
        policy = result
    return policy


def _check_result(result: Any, given: Policy) -> None:
    """Raise PipelineError where a stage did not return a policy for the spaces that it was given."""
    if not isinstance(result, Policy):
        raise PipelineError(f"it returned {type(result).__name__}, not a Policy.")
    try:
        action = result(np.zeros(given.observation_size, np.float32))
    except Exception as error:
        raise PipelineError(
            f"its policy cannot act on {given.observation_size} observations ({one_line(error)})."
        ) from error
    sizes = (result.observation_size, *action.shape, result.action_size)
    if sizes != (given.observation_size, given.action_size, given.action_size):
        raise PipelineError("it changed the observation or action size.")
    if not np.isfinite(action).all():
        raise PipelineError("its policy gives NaN or infinite actions.")


def _refuse_impossible_order(stages: list[Stage]) -> None:
    """Compare what each stage gives with what the next one takes, where both declare it."""
    for before, after in pairwise(stages):
        gives = getattr(before.compressor, "gives", None)
        takes = getattr(after.compressor, "takes", None)
        if gives is not None and takes is not None and gives not in takes:
            raise PipelineError(
                f"{after.text!r} cannot follow {before.text!r}: it takes a policy in {' or '.join(takes)} "
                f"form, and gets one in {gives} form. Put {before.text!r} last."
            )


def compress(
    policy: str | Path | Policy,
    compressor: str,
    *,
    out: str | Path | None = None,
    env_id: str = "",
    seed: int = 0,
    progress: Progress = silent,
) -> Policy:
    """Compress a policy (a file or a Policy) by a pipeline and return it; `out` also writes the file.

    env_id: environment in which states are visited and training goes on; default: the policy's own.
    """
    stages = parse(compressor)
    loaded = policy if isinstance(policy, Policy) else Policy.load(policy)
    target = Path(out) if out is not None else None
    if target is not None:
        files.make_folder(target.parent)
        files.refuse_to_replace(policy, target)
        if target.is_dir():
            raise UsageError(
                f"{target} is a folder; name the policy file to write, e.g. {target}/small.policy."
            )
    result = run(stages, loaded, lab_for(loaded, env_id or loaded.env_id, "", seed, progress))
    if target is not None:
        result.save(target)
    return result


def lab_for(policy: Policy, env_id: str, algorithm: str, seed: int, progress: Progress = silent) -> Lab:
    """The Lab in which this policy is compressed.

    algorithm: plugin that trains it further, with options; "" takes the one that learnt it, if installed
    """
    lab = Lab(env_id=env_id, seed=seed, baseline=policy, progress=progress)
    installed = [e.entry.name for e in plugins.registry().entries("algorithm")]
    if algorithm or policy.algorithm in installed:
        lab.algorithm = plugins.create("algorithm", algorithm or policy.algorithm)
    lab.check_fits(policy)
    return lab
