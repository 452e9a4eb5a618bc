"""The order of repeated measurements: ABBA, so that a drift of the machine hits every side alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def interleaved(sides: Sequence[T], rounds: int) -> Iterator[T]:
    """Yield every side once a round, in turned order from round to round: A B, B A, A B ..."""
    for number in range(rounds):
        yield from sides if number % 2 == 0 else reversed(sides)
