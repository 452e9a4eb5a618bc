"""What the contracts share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from compressrl import options
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.policy import Policy


def actions(function: PolicyFunction, observations: Float32Array) -> Float32Array:
    """Actions (N, action_size), one observation at a time, as in an environment.

    In one batch a dynamically quantized network would share its activation ranges among all of them.
    """
    return np.stack([np.array(function(observation)) for observation in observations])


def assert_acts_within_bounds(policy: Policy, observations: Float32Array) -> None:
    acted = actions(policy, observations)
    assert acted.shape == (len(observations), policy.action_size)
    assert np.isfinite(acted).all()
    assert (acted >= policy.action_low - 1e-5).all()
    assert (acted <= policy.action_high + 1e-5).all()


def assert_same_spaces(policy: Policy, other: Policy) -> None:
    assert policy.observation_size == other.observation_size
    assert np.array_equal(policy.action_low, other.action_low)
    assert np.array_equal(policy.action_high, other.action_high)


def assert_described(plugin: type[Any], given: Mapping[str, Any]) -> None:
    """Every option has a help text and a default within its range, and the plugin takes its own defaults."""
    if dataclasses.is_dataclass(plugin):
        frozen = plugin.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert frozen, "the options of a plugin do not change: @dataclass(frozen=True)"
    described = options.describe(plugin)
    assert [option.name for option in described if not option.option.help] == [], "options without help"
    required = {option.name for option in described if option.default is None and not option.optional}
    defaults = {option.name: option.default for option in described if option.name not in required}
    options.build(plugin, plugin.__name__, {**defaults, **{name: given[name] for name in required}})
