"""What an algorithm needs while it trains: steps, checkpoints, learning curve, progress.

An algorithm calls, in this order: `resume()` once; then, as it goes, `episode()` for each finished training
episode, `scalars()` for each logged update, and `boundary()` after every environment step (or every
rollout), which evaluates and checkpoints when it is time. A run that goes on from a checkpoint begins with
`boundary()`, for what was interrupted there; all that trains is inside `stoppable()`. Everything else is this
module's.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressrl import checkpoints, files, interrupts
from compressrl.errors import CompressrlError, EnvironmentFailedError, TrainingDivergedError, UsageError
from compressrl.networks import layers
from compressrl.progress import Progress, silent

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compressrl.policy import Policy

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_FORMAT = 4  # to be raised where an algorithm keeps the same things in another order
CHECKPOINT_NAMES = {"fingerprint", "step", "seconds", "best", "best policy", "evaluated", "state"}
LATEST_POLICY = "latest.policy"
BEST_POLICY = "best.policy"
LEARNING_CURVE = "learning_curve.csv"
CURVE_COLUMNS = ("step", "seconds", "evaluation_return_mean", "training_return_mean")


def nothing() -> None:
    """Nobody waits for the start."""


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
    confirm:          the same over other episodes, where an evaluation is the best so far; None: not asked
    evaluation_every, checkpoint_every: in environment steps
    best_return, best_step: the best so far, as confirmed; its policy is kept in the folder
    step:             the run's latest, as `boundary` was told or the checkpoint says
    resumed_at:       step of the checkpoint that the run goes on from; -1 at its beginning
    on_start:         called once, when it is known that the run can begin, or go on
    start:            policy whose network the actor starts from
    adapt_actor:      applied to the actor's network (a Sequential ending in the pre-tanh or mean output)
                      once, before the first step
    """

    steps: int = 0
    device: str = "cpu"
    folder: Path | None = None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Callable[[Policy], float] | None = None
    confirm: Callable[[Policy], float] | None = None
    evaluation_every: int = 10_000
    checkpoint_every: int = 50_000
    start: Policy | None = None
    adapt_actor: Callable[[nn.Module], nn.Module] = unchanged
    progress: Progress = silent
    on_start: Callable[[], None] = nothing

    _started: float = field(default_factory=time.monotonic)
    _recent_returns: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    best_return: float = -math.inf
    best_step: int = 0
    step: int = 0
    resumed_at: int = -1
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

        Raises UsageError when the folder holds a checkpoint of another algorithm, environment or options,
        or of a run that was asked for more steps.
        """
        if self.folder is None:
            return None
        path = self.folder / CHECKPOINT
        if not path.exists():
            self._truncate_curve(-1)
            self.on_start()
            return None
        saved = checkpoints.read(path, CHECKPOINT_NAMES)
        self._refuse_another_run(path, saved)
        self._truncate_curve(saved["evaluated"])
        if saved["step"] < self.steps:
            self.on_start()
        self._started = time.monotonic() - saved["seconds"]
        self.best_return, self.best_step = saved["best"]
        self._restore_best_policy(saved["best policy"])
        self._last_evaluation = saved["evaluated"]
        self.step = self.resumed_at = self._last_checkpoint = saved["step"]
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
            raise self.diverged(step, ", ".join(bad))
        self._write_scalars(step, values)

    def boundary(
        self,
        step: int,
        policy: Callable[[], Policy],
        state: Callable[[], dict[str, Any]],
        *,
        has_learnt: bool = True,
    ) -> None:
        """A point at which the run can be evaluated, checkpointed and later resumed.

        `policy` and `state` are called only when needed; `state` holds tensors, numbers, strings and
        lists or dicts of them (what torch.load reads with weights_only=True). A policy that has not learnt
        yet has its place in the curve, and is never the best. At the same step again it does what is left.
        Raises TrainingDivergedError, and writes nothing, when the policy holds NaN or infinity.
        """
        self.step, ends = step, step >= self.steps
        evaluates = self.evaluate and self._due(step, self._last_evaluation, self.evaluation_every)
        if evaluates:
            self._record_evaluation(step, self._finite(step, policy()), has_learnt)
        made_up = evaluates and step == self._last_checkpoint  # which does not know of it yet
        if self.folder and (made_up or self._due(step, self._last_checkpoint, self.checkpoint_every)):
            self.save(step, policy, state)
        if ends or step - self._last_progress >= 100:
            self._last_progress = step
            self.progress("training", step, self.steps, self._note())

    @contextlib.contextmanager
    def stoppable(self, save: Callable[[], None]) -> Iterator[None]:
        """What stops the training within, Ctrl-C or an environment that fails, goes on once `save` is done.

        save: calls the session's, with a state that can be gone on from
        """
        try:
            yield
        except (KeyboardInterrupt, EnvironmentFailedError) as error:
            with interrupts.held_back("saving the run"):
                save()
            if not isinstance(error, EnvironmentFailedError):
                raise
            kept = f" The run is saved at step {self._last_checkpoint:,}." if self.folder else ""
            raise EnvironmentFailedError(f"{error}{kept}") from error

    @interrupts.held_back("saving the run")
    def save(self, step: int, policy: Callable[[], Policy], state: Callable[[], dict[str, Any]]) -> None:
        """Write checkpoint and latest policy, each by atomic rename: a full disk leaves the old ones.

        Ctrl-C meanwhile is heard at its end.
        """
        if self.folder is None:
            return
        latest = self._finite(step, policy())
        payload = {
            "fingerprint": dict(self.fingerprint),
            "steps": self.steps,
            "step": step,
            "seconds": self.seconds,
            "best": (self.best_return, self.best_step),
            "best policy": self._best_policy(),
            "evaluated": self._last_evaluation,
            "state": state(),
        }
        checkpoints.write(self.folder / CHECKPOINT, payload)
        self._last_checkpoint = step
        latest.save(self.folder / LATEST_POLICY)

    def close(self) -> None:
        """Write out the TensorBoard scalars that are still in memory, at the end of the run."""
        if self._tensorboard:
            # The checkpoint, not a scalar, reports a full disk.
            with contextlib.suppress(OSError), interrupts.held_back():
                self._tensorboard.close()
            self._tensorboard = None

    def _due(self, step: int, last: int, every: int) -> bool:
        return step - last >= every or last < step >= self.steps

    def _refuse_another_run(self, path: Path, saved: Mapping[str, Any]) -> None:
        old, new = saved["fingerprint"], dict(self.fingerprint)
        different = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        if different:
            raise UsageError(
                f"{path} is of another run (different: {', '.join(different)}). "
                "Choose another --out, or delete it."
            )
        if saved["step"] > self.steps < saved.get("steps", 0):
            raise UsageError(
                f"{path} is of a run of {saved['steps']} steps, more than {self.steps}. "
                "Choose another --out, or as many steps."
            )

    def _finite(self, step: int, policy: Policy) -> Policy:
        arrays = layers.describe(policy.layers)[1] if policy.layers else {}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise self.diverged(step, "the policy")
        return policy

    def diverged(self, step: int, what: str) -> TrainingDivergedError:
        """To be raised where `what` is NaN or infinite; says which policy is kept, and what may help."""
        paths = [self.folder / name for name in (BEST_POLICY, LATEST_POLICY)] if self.folder else []
        kept = next((f" The last good policy is {path}." for path in paths if path.exists()), "")
        advice = " Try lower learning rates, in another --out: the same command repeats it."
        return TrainingDivergedError(f"{what} became NaN or infinite at step {step}.{kept}{advice}")

    def _note(self) -> str:
        if not self._recent_returns:
            return ""
        return f"return {sum(self._recent_returns) / len(self._recent_returns):.0f}"

    def _record_evaluation(self, step: int, policy: Policy, has_learnt: bool) -> None:
        assert self.evaluate is not None
        mean = self.evaluate(policy)
        recent = sum(self._recent_returns) / len(self._recent_returns) if self._recent_returns else math.nan
        self._write_scalars(step, {"evaluation/return_mean": mean})
        if self.folder and has_learnt and mean > self.best_return:
            self._challenge(step, policy, mean)
        with interrupts.held_back():  # or the row would be written twice
            if self.folder:
                row = f"{step},{self.seconds:.1f},{mean:.2f},{recent:.2f}"
                self._write_curve([*self._read_curve(), row])
            self._last_evaluation = step

    def _challenge(self, step: int, policy: Policy, mean: float) -> None:
        # The highest of many evaluations is a lucky one too.
        confirmed = self.confirm(policy) if self.confirm else mean
        if self.folder and confirmed > self.best_return:
            with interrupts.held_back():
                policy.save(self.folder / BEST_POLICY)
                self.best_return, self.best_step = confirmed, step

    def _best_policy(self) -> torch.Tensor:
        """Content of the best policy's file, (bytes,) uint8; of none before the first evaluation."""
        import torch

        content = (self.folder / BEST_POLICY).read_bytes() if self.folder and self.best_step else b""
        return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0)

    def _restore_best_policy(self, content: torch.Tensor) -> None:
        # One that was found past the checkpoint belongs to steps that will be run again.
        assert self.folder is not None
        if len(content):
            files.write_bytes_atomic(self.folder / BEST_POLICY, content.cpu().numpy().tobytes())
        else:
            (self.folder / BEST_POLICY).unlink(missing_ok=True)

    def _truncate_curve(self, step: int) -> None:
        # Evaluations that the checkpoint does not know of will be made again.
        try:
            rows = self._read_curve()
            kept = [row for row in rows if int(row.partition(",")[0]) <= step]
        except ValueError as error:
            raise UsageError(
                f"{self.folder}/{LEARNING_CURVE} is damaged ({error}). Mend that line, or take another --out."
            ) from error
        if rows:
            self._write_curve(kept)

    def _read_curve(self) -> list[str]:
        path = self.folder / LEARNING_CURVE if self.folder else None
        return path.read_text().splitlines()[1:] if path and path.exists() else []

    def _write_curve(self, rows: list[str]) -> None:
        assert self.folder is not None
        # The whole file by atomic rename: a crash never leaves half a row.
        files.write_text_atomic(self.folder / LEARNING_CURVE, "\n".join([",".join(CURVE_COLUMNS), *rows, ""]))

    def _write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.folder is None:
            return
        try:
            # TensorBoard's thread would wait for what was cut short, for two minutes or for good.
            with interrupts.held_back():
                if self._tensorboard is None:
                    self._tensorboard = _summary_writer(self.folder / "tensorboard", self.resumed_at)
                for name, value in values.items() if self._tensorboard else ():
                    self._tensorboard.add_scalar(name, value, step)
        except OSError as error:
            raise CompressrlError(f"{self.folder} cannot be written: {error.strerror or error}.") from error


def _summary_writer(folder: Path, resumed_at: int) -> Any:
    """TensorBoard's writer, or False where the extra `compressrl[tensorboard]` is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    # Scalars past the checkpoint belong to steps that are run again: TensorBoard hides them.
    return SummaryWriter(str(folder), purge_step=resumed_at + 1)
