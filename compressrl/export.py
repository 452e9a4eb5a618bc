"""A policy as a file that is deployed without this package: C99 source or ONNX."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compressrl import environments, files, rollout
from compressrl.c_code import c_source, microcontroller
from compressrl.c_code.microcontroller import Footprint
from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array
from compressrl.lab import Lab
from compressrl.networks import onnx_graph
from compressrl.policy import Policy
from compressrl.progress import Progress, silent
from compressrl.records import EpisodeRecords

Format = Literal["c", "onnx"]
FORMATS: tuple[Format, ...] = ("c", "onnx")
RECORDED = 16  # observations in the self-test
EXPORT_STREAM = 0xC0DE  # sets these random numbers apart from those of an evaluation


@dataclass(frozen=True)
class Exported:
    """The file that was written.

    size_bytes:  length of the file
    return_mean, return_std, episodes: of the policy, None where no episode was run
    cortex_m4:   flash and RAM there; None for ONNX, or where no cross-compiler is installed
    """

    path: Path
    format: Format
    size_bytes: int
    return_mean: float | None
    return_std: float | None
    episodes: int
    cortex_m4: Footprint | None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def export(
    policy: Policy | str | Path,
    out: str | Path,
    *,
    format: Format | None = None,
    env_id: str = "",
    episodes: int = 10,
    seed: int = 0,
    progress: Progress = silent,
) -> Exported:
    """Write a policy as C99 source or as an ONNX file, with its return and how it was made inside.

    format:   None: that of the file's ending
    env_id:   Gymnasium id of the environment that it is for; default: the policy's own
    episodes: run to state the return; 0 states none. Then no environment is needed: where it is missing, the
              self-test of the C file is recorded on normally distributed observations
    Raises UsageError for what has no such form, an unknown format, and one that the ending contradicts or
    does not tell, for a policy file that would be replaced, and for a policy that does not fit the
    environment, or acts NaN or infinity in it.
    """
    format = _format(format, Path(out).suffix)
    loaded = policy if isinstance(policy, Policy) else Policy.load(policy)
    loaded = replace(loaded, env_id=env_id or loaded.env_id)
    path = Path(out)
    files.make_folder(path.parent)
    files.refuse_to_replace(policy, path)
    loaded.refuse_not_finite()
    source = c_source.write(loaded) if format == "c" else ""  # refused before any episode runs
    observations = _recorded(loaded, episodes, seed)
    actions = loaded(observations)
    if not np.isfinite(actions).all():
        raise UsageError("The policy's actions are NaN or infinite; such a policy cannot be deployed.")
    returns = _returns(loaded, episodes, seed, progress)
    remarks = _remarks(loaded, returns, seed)
    footprint = None
    if format == "c":
        source = c_source.write(loaded, remarks, (observations, actions))
        files.write_text_atomic(path, source)
        footprint = microcontroller.footprint(source)
    else:
        metadata = {"environment": loaded.env_id, "algorithm": loaded.algorithm}
        metadata |= {"made": "\n".join(loaded.provenance), "remarks": "\n".join(remarks)}
        files.write_bytes_atomic(path, onnx_graph.with_metadata(loaded.to_onnx(), metadata))
    return Exported(
        path=path,
        format=format,
        size_bytes=path.stat().st_size,
        return_mean=returns.mean_return if returns else None,
        return_std=returns.std_return if returns else None,
        episodes=episodes,
        cortex_m4=footprint,
    )


def _format(asked: str | None, suffix: str) -> Format:
    called = next((known for known in FORMATS if suffix == f".{known}"), None)
    if asked is not None and asked not in FORMATS:
        raise UsageError(f"--format {asked} is not known; choose one of {', '.join(FORMATS)}.")
    if asked and called and asked != called:
        raise UsageError(f"--format {asked} in a file called {suffix}? Leave --format out, or rename it.")
    chosen = asked or called
    if not chosen:
        endings = " or ".join(f".{known}" for known in FORMATS)
        raise UsageError(f"Which format? Let the name of --out end in {endings}, or give --format.")
    return chosen


def _returns(policy: Policy, episodes: int, seed: int, progress: Progress) -> EpisodeRecords | None:
    if not episodes:
        return None
    seeds = [int(s) for s in np.random.default_rng([seed, EXPORT_STREAM]).integers(2**31, size=episodes)]
    return rollout.run_episodes(
        policy,
        lambda: environments.make(policy.env_id),
        seeds,
        lambda done, mean: progress("return", done, episodes, f"{mean:.0f}"),
    )


def _remarks(policy: Policy, returns: EpisodeRecords | None, seed: int) -> list[str]:
    if returns is None:
        return []
    figures = f"{returns.mean_return:.1f} +- {returns.std_return:.1f}"
    return [f"Return {figures} over {len(returns.returns)} episodes of {policy.env_id}, seed {seed}."]


def _recorded(policy: Policy, episodes: int, seed: int) -> Float32Array:
    """Observations that the policy meets, spread over an episode."""
    rng = np.random.default_rng([seed, EXPORT_STREAM])
    lab = Lab(policy.env_id)
    try:
        lab.make_env().close()
    except UsageError:
        if episodes:
            raise
        return rng.standard_normal((RECORDED, policy.observation_size), dtype=np.float32)
    lab.check_fits(policy)
    visited = rollout.visited_states(policy, lab.make_env, RECORDED * 10, rng)
    return visited[:: len(visited) // RECORDED]
