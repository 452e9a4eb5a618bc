"""The cells of a study."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One evaluation of a study.

    compressor: pipeline; "" is the baseline against itself, the noise floor of all other cells
    repeat:     number of the repeat; the same cell with another seed
    episodes:   evaluation episodes a side
    profilers:  options of profilers
    """

    algorithm: str
    env_id: str
    compressor: str
    runtime: str
    repeat: int
    episodes: int
    profilers: tuple[str, ...] = ()
