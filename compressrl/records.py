"""What is measured, as frozen records: the unit is in every field's name or docstring."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class EpisodeRecords:
    """N evaluation episodes of one policy.

    seeds:          reset seed of each episode
    returns:        undiscounted sum of rewards
    lengths:        environment steps
    action_changes: mean absolute action change per step, in the environment's action units (smoothness)
    """

    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    action_changes: tuple[float, ...]

    @property
    def mean_return(self) -> float:
        return fmean(self.returns)
