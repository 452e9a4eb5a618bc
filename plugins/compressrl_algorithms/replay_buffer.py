"""Replay memory: one row of one contiguous float32 table for each transition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array


class Batch(NamedTuple):
    """Transitions, (B, size) each; the action is in (-1, 1), before it is rescaled to units."""

    observation: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor  # (B,)
    not_terminated: torch.Tensor  # (B,) 0 where the successor is terminal; 1 at a mere time limit
    next_observation: torch.Tensor


class ReplayBuffer:
    """The last `capacity` transitions, sampled uniformly with replacement.

    The table is not initialised: the operating system gives it memory as rows are written.
    """

    def __init__(self, capacity: int, observation_size: int, action_size: int, device: str = "cpu") -> None:
        self.capacity = capacity
        self._widths = [observation_size, action_size, 1, 1, observation_size]
        try:
            self._rows = torch.empty(capacity, sum(self._widths), device=device)
        except RuntimeError as error:  # torch has no type for this
            needed = 4 * capacity * sum(self._widths) / 1e9
            raise UsageError(
                f"A replay memory of {capacity:,} transitions takes {needed:,.1f} GB, more than there is. "
                "Ask for a smaller one: buffer_size=100000"
            ) from error
        self._table = self._rows.numpy() if self._rows.is_cpu else None  # the same memory
        self._row = np.empty(sum(self._widths), dtype=np.float32)  # on its way to another device
        self._batches: dict[int, tuple[torch.Tensor, torch.Tensor, Batch]] = {}  # by size
        self._inserted = 0

    def __len__(self) -> int:
        return min(self._inserted, self.capacity)

    def add(
        self,
        observation: Float32Array,
        action: Float32Array,
        reward: float,
        terminated: bool,
        next_observation: Float32Array,
    ) -> None:
        """Insert one transition over the oldest one."""
        place, size = self._inserted % self.capacity, len(observation)
        row = self._row if self._table is None else self._table[place]
        row[:size] = observation
        row[size : -size - 2] = action
        row[-size - 2] = reward
        row[-size - 1] = not terminated
        row[-size:] = next_observation
        if self._table is None:
            self._rows[place] = torch.from_numpy(row)
        self._inserted += 1

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Draw `count` transitions, which stand there until the next draw."""
        index, rows, batch = self._drawn(count)
        index.random_(0, len(self), generator=generator)
        torch.index_select(self._rows, 0, index, out=rows)
        return batch

    def _drawn(self, count: int) -> tuple[torch.Tensor, torch.Tensor, Batch]:
        """Places and rows for so many transitions and views of their parts, made once."""
        if count not in self._batches:
            rows = self._rows.new_empty(count, self._rows.shape[1])
            observation, action, reward, not_terminated, successor = torch.split(rows, self._widths, dim=1)
            self._batches[count] = (
                torch.empty(count, dtype=torch.int64, device=rows.device),
                rows,
                Batch(observation, action, reward.squeeze(1), not_terminated.squeeze(1), successor),
            )
        return self._batches[count]

    def filled(self) -> Float32Array:
        """The filled rows, on the CPU."""
        rows: Float32Array = self._rows[: len(self)].cpu().numpy()
        return rows

    def state(self) -> dict[str, Any]:
        """The filled rows only."""
        # Through numpy, because torch.save would write the whole storage of a slice.
        return {"rows": torch.from_numpy(self.filled()), "inserted": self._inserted}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`; the capacity may have grown since, as long as no row had been overwritten."""
        rows = state["rows"]
        self._rows[: len(rows)] = rows
        self._inserted = state["inserted"]
