import numpy as np
import pytest
from compressrl_rounding import WeightRounding

from compressrl import Lab
from compressrl.testing import TINY, CompressorContract, tiny_policy


class TestWeightRounding(CompressorContract):
    """What every compressor must keep to: inherited."""

    plugin = WeightRounding


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_row_has_no_more_levels_than_its_bits_allow(bits: int) -> None:
    policy = tiny_policy(hidden=(300, 300))
    rounded = WeightRounding(bits=bits).compress(policy, Lab(TINY))
    rows = [row for layer in rounded.layers if layer.kind == "linear" for row in layer.weight]
    assert max(len(np.unique(row)) for row in rows) <= 2**bits - 1


def test_more_bits_are_nearer_to_the_original() -> None:
    policy = tiny_policy()
    observation = np.ones(3, np.float32)
    errors = [
        np.abs(WeightRounding(bits).compress(policy, Lab(TINY))(observation) - policy(observation)).max()
        for bits in (2, 4, 8)
    ]
    assert errors[0] > errors[1] > errors[2]
