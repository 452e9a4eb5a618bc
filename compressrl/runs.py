"""Training runs: one folder each, resumable, with everything that says how the policy was made."""

from __future__ import annotations

import functools
import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from gymnasium import spaces

import compressrl
from compressrl import defaults, environments, files, options, plugins
from compressrl.episodes.players import Players
from compressrl.errors import PolicyFileError, UsageError
from compressrl.interfaces import Algorithm
from compressrl.lab import Lab
from compressrl.policy import Policy
from compressrl.progress import Progress, silent
from compressrl.training import (
    BEST_POLICY,
    CHECKPOINT,
    CHECKPOINT_FORMAT,
    LATEST_POLICY,
    LEARNING_CURVE,
    TrainingSession,
)

FINAL_POLICY = "final.policy"
RECORD = "training.json"
COMMITS = "commits.txt"
# Seeds of evaluations during training; far from those that `evaluate` draws.
CURVE_SEEDS = tuple(range(1_000_000_000, 1_000_000_005))
SELECTION_SEEDS = tuple(range(1_050_000_000, 1_050_000_015))
FINAL_SEEDS = tuple(range(1_100_000_000, 1_100_000_020))


@dataclass(frozen=True)
class TrainingResult:
    """A finished training run.

    policy:  the policy of the best evaluation along the way, as confirmed on further episodes
    path:    its file
    record:  command, seed, steps, seconds, device, threads, version, commits, returns over 20 episodes of
             fresh seeds
    """

    policy: Policy
    path: Path
    record: dict[str, Any]


def train(
    algorithm: str,
    env_id: str = defaults.ENVIRONMENT,
    *,
    steps: int = defaults.TRAINING_STEPS,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    progress: Progress = silent,
) -> TrainingResult:
    """Train a policy, or go on with the run that `out` holds, up to `steps` environment steps.

    algorithm: plugin with options, e.g. "sac:actor_lr=1e-3"
    out:       folder of the run; default runs/train/<algorithm>_<environment>_seed<seed>
    threads:   of torch and of what follows it; processes that play the episodes of evaluations, and that
               step `num_envs` of ppo and trpo. With another number the same seed gives the same weights in
               the built-in off-policy algorithms on their kernel; elsewhere sums may be taken in another
               order
    Raises UsageError when `out` holds a run of another algorithm, environment, seed or options, or one that
    another process is at.
    """
    import torch

    torch.set_num_threads(threads)
    device = _checked(device)
    learner = plugins.create("algorithm", algorithm)
    same = {"algorithm": plugins.parse(algorithm)[0], "env_id": env_id, "seed": seed, **_spaces(env_id)}
    folder = Path(out) if out else default_folder(algorithm, env_id, seed)
    commit = _commit()  # now: the checkout may move on while this process trains
    players = Players(env_id, threads)
    session = TrainingSession(
        steps=steps,
        device=device,
        folder=folder,
        fingerprint={
            **options.as_dict(learner),
            **same,
            "device": device.partition(":")[0],
            "checkpoint format": CHECKPOINT_FORMAT,
        },
        evaluate=lambda policy: players.play(policy, CURVE_SEEDS).mean_return,
        confirm=lambda policy: players.play(policy, SELECTION_SEEDS).mean_return,
        evaluation_every=min(10_000, max(steps // 10, 1)),
        checkpoint_every=50_000,
        progress=progress,
        on_start=functools.partial(_note_commit, folder, commit),
    )
    words = command(algorithm, env_id, steps, seed, device=device, threads=threads)
    with files.alone_in(folder), players:
        files.remove_temporaries(folder)  # of a process that was killed while it wrote them
        policy = _policy(learner, folder, Lab(env_id=env_id, seed=seed, training=session))
        finished = _finished(folder, session)
        if finished:
            return finished
        path = folder / FINAL_POLICY
        policy.save(path)
        _note_commit(folder, commit)  # of an algorithm that does not resume
        content = {
            "command": words,
            **_record(env_id, session, seed, policy, players),
            "threads": threads,
            "commits": _commits(folder),
        }
        files.write_json_atomic(folder / RECORD, content)
    return TrainingResult(policy, path, content)


def _finished(folder: Path, session: TrainingSession) -> TrainingResult | None:
    """What the session's run has left at its end; None where it is of fewer steps, or damaged."""
    path = folder / FINAL_POLICY
    try:
        record = json.loads((folder / RECORD).read_bytes())
        if record["steps"] == session.step == session.resumed_at:
            return TrainingResult(Policy.load(path), path, record)
    except (OSError, ValueError, LookupError, TypeError, PolicyFileError):
        pass
    return None


def _policy(learner: Algorithm, folder: Path, lab: Lab) -> Policy:
    """Train, and take the best along the way."""
    if (folder / RECORD).exists() and not (folder / CHECKPOINT).exists():
        raise UsageError(
            f"{folder} holds a finished run without its checkpoint. Choose another --out, or delete {RECORD}."
        )
    if not (folder / CHECKPOINT).exists():
        for left_by_another in (BEST_POLICY, LATEST_POLICY, FINAL_POLICY, COMMITS):
            (folder / left_by_another).unlink(missing_ok=True)
    try:
        final = learner.train(lab)
    finally:
        lab.training.close()
    return Policy.load(folder / BEST_POLICY) if (folder / BEST_POLICY).exists() else final


def default_folder(algorithm: str, env_id: str, seed: int) -> Path:
    """Where a training run goes when nobody says; other options of the algorithm are another run."""
    words = f"{algorithm}_{env_id}_seed{seed}"
    return Path("runs") / "train" / "".join(c if c.isalnum() or c in "._=-" else "-" for c in words)


def command(
    algorithm: str, env_id: str, steps: int, seed: int | range, *, device: str = "cpu", threads: int = 1
) -> str:
    """The command line that makes this policy again, or those of a range of seeds."""
    words = [
        "compressrl",
        "train",
        "--algo",
        algorithm,
        "--env",
        env_id,
        "--steps",
        str(steps),
        *(["--seed", str(seed)] if isinstance(seed, int) else ["--seeds", f"{seed[0]}..{seed[-1]}"]),
        *(["--device", device] if device != "cpu" else []),
        *(["--threads", str(threads)] if threads != 1 else []),
    ]
    return shlex.join(words)


def _record(
    env_id: str, session: TrainingSession, seed: int, policy: Policy, players: Players
) -> dict[str, Any]:
    episodes = players.play(policy, FINAL_SEEDS)
    steps = session.step or session.steps  # of an algorithm that does not tell
    environments.refuse_infinite(env_id, steps, np.array(episodes.returns))
    return {
        "algorithm": policy.algorithm,
        "env_id": env_id,
        "seed": seed,
        "steps": steps,
        "selected_at_step": session.best_step or steps,
        "seconds": round(session.seconds, 1),
        "device": session.device,
        "return_mean": round(episodes.mean_return, 2),
        "return_std": round(episodes.std_return, 2),
        "episodes": len(FINAL_SEEDS),
        "compressrl": compressrl.__version__,
        "learning_curve": LEARNING_CURVE,
    }


def _spaces(env_id: str) -> dict[str, Any]:
    """What networks and replay memory depend on: an environment may change under its name."""
    env = environments.make(env_id)
    env.close()
    space, observations = cast(spaces.Box, env.action_space), cast(spaces.Box, env.observation_space)
    return {
        "observation size": observations.shape[0],
        "action low": space.low.tolist(),
        "action high": space.high.tolist(),
    }


def _checked(device: str) -> str:
    """The device, which has one name where there is only one of its type."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise UsageError(f"The device {device!r} cannot be used: {reason}. Use --device cpu.") from error
    return "cpu" if torch.device(device).type == "cpu" else device


def _commits(folder: Path) -> list[str]:
    """The commits that this run was trained with, in order: several if it was resumed after a change."""
    path = folder / COMMITS
    return path.read_text().split() if path.exists() else []


def _note_commit(folder: Path, commit: str) -> None:
    commits = _commits(folder)
    if commit not in commits[-1:]:
        files.write_text_atomic(folder / COMMITS, "\n".join([*commits, commit]) + "\n")


def _commit() -> str:
    """The commit of the checkout that this package runs from (`-dirty` if changed), "" if installed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # git is not installed
        return ""
