"""What an algorithm needs while it trains: steps, checkpoints, learning curve, progress.

An algorithm calls, in this order: `resume()` once; then, as it goes, `episode()` for each finished training
episode, `scalars()` for each logged update, and `boundary()` after every environment step (or every
rollout), which evaluates and checkpoints when it is time. Everything else is this module's.
"""

from __future__ import annotations

import csv
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressrl import files
from compressrl.errors import TrainingDivergedError, UsageError
from compressrl.progress import Progress, silent

if TYPE_CHECKING:
    from torch import nn

    from compressrl.policy import Policy

CHECKPOINT = "checkpoint.pt"
LATEST_POLICY = "latest.policy"
BEST_POLICY = "best.policy"
LEARNING_CURVE = "learning_curve.csv"
CURVE_COLUMNS = ("step", "seconds", "evaluation_return_mean", "training_return_mean")


def unchanged(actor: nn.Module) -> nn.Module:
    """The actor as the algorithm built it."""
    return actor


@dataclass
class TrainingSession:
    """One training run.

    steps:            environment steps to reach, counted from the beginning of the run, resumed or not
    device:           torch device of the networks
    folder:           where checkpoint, learning curve and TensorBoard scalars go; None keeps nothing
    fingerprint:      what a checkpoint must share with the run that resumes it
    evaluate:         mean return of a policy over the evaluation episodes; None skips the learning curve
    evaluation_every, checkpoint_every: in environment steps
    best_return, best_step: the best evaluation so far; its policy is kept in the folder
    start:            policy whose network the actor starts from
    adapt_actor:      applied to the actor's network (a Sequential ending in the pre-tanh or mean output)
                      once, before the first step
    """

    steps: int = 0
    device: str = "cpu"
    folder: Path | None = None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Callable[[Policy], float] | None = None
    evaluation_every: int = 10_000
    checkpoint_every: int = 50_000
    start: Policy | None = None
    adapt_actor: Callable[[nn.Module], nn.Module] = unchanged
    progress: Progress = silent

    _started: float = field(default_factory=time.monotonic)
    _recent_returns: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    best_return: float = -math.inf
    best_step: int = 0
    _last_evaluation: int = 0
    _last_checkpoint: int = 0
    _last_progress: int = 0
    _tensorboard: Any = None

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, earlier parts of a resumed one counted in."""
        return time.monotonic() - self._started

    def resume(self) -> dict[str, Any] | None:
        """State that `boundary` saved last, or None at the beginning of a run.

        Raises UsageError when the folder holds a checkpoint of another algorithm, environment or options.
        """
        path = self.folder / CHECKPOINT if self.folder else None
        if path is None or not path.exists():
            return None
        import torch

        try:
            saved = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            raise UsageError(
                f"{path} cannot be read ({type(error).__name__}); delete it to start anew."
            ) from error
        if saved["fingerprint"] != dict(self.fingerprint):
            different = sorted(
                k for k in {*saved["fingerprint"], *self.fingerprint}
                if saved["fingerprint"].get(k) != self.fingerprint.get(k)
            )  # fmt: skip
            raise UsageError(
                f"{path} is of another run (different: {', '.join(different)}). "
                "Choose another --out, or delete it."
            )
        self._started = time.monotonic() - saved["seconds"]
        self.best_return, self.best_step = saved["best"]
        self._last_evaluation = self._last_checkpoint = saved["step"]
        self._truncate_curve(saved["step"])
        state: dict[str, Any] = saved["state"]
        return state

    def episode(self, step: int, episode_return: float, length: int) -> None:
        """A training episode ended at environment step `step`."""
        self._recent_returns.append(episode_return)
        self._write_scalars(step, {"train/episode_return": episode_return, "train/episode_length": length})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Losses and the like, for TensorBoard. Raises TrainingDivergedError on NaN or infinity."""
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            kept = f" The last good policy is kept in {self.folder}." if self.folder else ""
            raise TrainingDivergedError(f"{', '.join(bad)} became NaN or infinite at step {step}.{kept}")
        self._write_scalars(step, values)

    def boundary(self, step: int, policy: Callable[[], Policy], state: Callable[[], dict[str, Any]]) -> None:
        """A point at which the run can be evaluated, checkpointed and later resumed.

        `policy` and `state` are called only when needed; `state` holds tensors, numbers, strings and
        lists or dicts of them (what torch.load reads with weights_only=True).
        """
        ends = step >= self.steps
        if self.evaluate and (ends or step - self._last_evaluation >= self.evaluation_every):
            self._last_evaluation = step
            self._record_evaluation(step, policy())
        if self.folder and (ends or step - self._last_checkpoint >= self.checkpoint_every):
            self._last_checkpoint = step
            self.save(step, policy, state)
        if ends or step - self._last_progress >= 100:
            self._last_progress = step
            self.progress("training", step, self.steps, self._note())

    def save(self, step: int, policy: Callable[[], Policy], state: Callable[[], dict[str, Any]]) -> None:
        """Write checkpoint and latest policy, each by atomic rename: a full disk leaves the old ones."""
        if self.folder is None:
            return
        import torch

        payload = {
            "fingerprint": dict(self.fingerprint),
            "step": step,
            "seconds": self.seconds,
            "best": (self.best_return, self.best_step),
            "state": state(),
        }
        with files.atomic(self.folder / CHECKPOINT) as temporary:
            torch.save(payload, temporary)
        policy().save(self.folder / LATEST_POLICY)

    def _note(self) -> str:
        if not self._recent_returns:
            return ""
        return f"return {sum(self._recent_returns) / len(self._recent_returns):.0f}"

    def _record_evaluation(self, step: int, policy: Policy) -> None:
        assert self.evaluate is not None
        mean = self.evaluate(policy)
        recent = sum(self._recent_returns) / len(self._recent_returns) if self._recent_returns else math.nan
        self._write_scalars(step, {"evaluation/return_mean": mean})
        if self.folder is None:
            return
        if mean > self.best_return:
            self.best_return, self.best_step = mean, step
            policy.save(self.folder / BEST_POLICY)
        path = self.folder / LEARNING_CURVE
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(CURVE_COLUMNS)
            writer.writerow([step, f"{self.seconds:.1f}", f"{mean:.2f}", f"{recent:.2f}"])

    def _truncate_curve(self, step: int) -> None:
        # Rows past the checkpoint belong to steps that will be run again.
        path = self.folder / LEARNING_CURVE if self.folder else None
        if path is None or not path.exists():
            return
        header, *rows = path.read_text().splitlines()
        kept = [row for row in rows if int(row.split(",")[0]) <= step]
        files.write_text_atomic(path, "\n".join([header, *kept]) + "\n")

    def _write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.folder is None:
            return
        if self._tensorboard is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:  # the extra `compressrl[tensorboard]` is not installed
                self._tensorboard = False
            else:
                self._tensorboard = SummaryWriter(str(self.folder / "tensorboard"))
        if self._tensorboard:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)
