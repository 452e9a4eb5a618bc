"""Random partitions of a batch. Parts stand in the same memory each time: their updates can be repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch


class Minibatches:
    """Each part stands there until the next one of its size is drawn."""

    def __init__(self) -> None:
        self.memory: dict[int, tuple[torch.Tensor, ...]] = {}  # by rows

    def draw(
        self, batch: Sequence[torch.Tensor], size: int, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """A random partition into nearly equal parts of some `size` rows, 2 at least.

        batch: tensors of as many rows each, of the same shapes each time
        All but the last are of an even number of rows, which the kernel takes.
        """
        count, device = len(batch[0]), batch[0].device
        parts = max(1, count // size)
        ends = [2 * (count * part // (2 * parts)) for part in range(1, parts)]
        order = torch.from_numpy(rng.permutation(count)).to(device)
        for index in order.tensor_split(ends):
            part = self._room(batch, len(index))
            for source, target in zip(batch, part, strict=True):
                torch.index_select(source, 0, index, out=target)
            yield part

    def _room(self, batch: Sequence[torch.Tensor], rows: int) -> tuple[torch.Tensor, ...]:
        if rows not in self.memory:
            self.memory[rows] = tuple(tensor.new_empty(rows, *tensor.shape[1:]) for tensor in batch)
        return self.memory[rows]
