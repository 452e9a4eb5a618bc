"""PTDQ: ONNX Runtime's dynamic quantization."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from compressrl.errors import PipelineError, UsageError
from compressrl.lab import Lab
from compressrl.networks import model_size, onnx_graph
from compressrl.policy import Policy
from compressrl.testing import CompressorContract, tiny_policy
from compressrl.testing.policies import states
from compressrl_quantizers.ptdq import PostTrainingDynamicQuantization


def compressed(policy: Policy, **options) -> Policy:
    return PostTrainingDynamicQuantization(**options).compress(policy, Lab(policy.env_id, baseline=policy))


def arrays(policy: Policy, ending: str) -> list[np.ndarray]:
    initializers = onnx.load_from_string(policy.graph).graph.initializer
    return [numpy_helper.to_array(tensor) for tensor in initializers if tensor.name.endswith(ending)]


class TestContract(CompressorContract):
    plugin = PostTrainingDynamicQuantization


def test_it_runs_by_integer_kernels_at_little_more_than_a_quarter_of_the_size():
    policy = tiny_policy(hidden=(64, 64))
    result = compressed(policy)
    assert onnx_graph.operators(result.graph)["DynamicQuantizeMatMul"] == 3
    before, after = model_size.measure(policy), model_size.measure(result)
    assert (after.parameters, after.bits) == (before.parameters, 8)
    assert after.size_bytes < 0.35 * before.size_bytes


def test_it_acts_nearly_as_before():
    policy = tiny_policy()
    difference = np.abs(compressed(policy)(states(200)) - policy(states(200)))
    assert 0 < difference.mean() < 0.02


def test_ranges_follow_every_single_observation():
    """A static range would round small observations away."""
    policy = tiny_policy()
    small = 1e-3 * states(50)
    moved = compressed(policy)(small) - compressed(policy)(np.zeros((50, 3), np.float32))
    expected = policy(small) - policy(np.zeros((50, 3), np.float32))
    assert np.abs(moved - expected).max() < 0.05


@pytest.mark.parametrize(("preset", "scales"), [("best", [32, 32, 2]), ("paper", [1, 1, 1])])
def test_rows_have_scales_of_their_own_but_in_the_paper(preset: str, scales: list[int]):
    result = compressed(tiny_policy(), preset=preset)
    assert [array.size for array in arrays(result, "_scale")] == scales


def test_best_standardises_features_of_different_sizes():
    policy = tiny_policy(hidden=(64, 64))
    network = policy.network[1:]
    with torch.no_grad():
        network[0].weight.mul_(torch.tensor([100.0, 1.0, 0.01]))
    unscaled = policy.with_network(network, "unscaled")
    errors = [
        np.abs(compressed(unscaled, preset=preset)(states(200)) - unscaled(states(200))).mean()
        for preset in ("best", "paper")
    ]
    assert errors[0] < 0.5 * errors[1]


def test_the_provenance_tells_options_and_figures():
    assert compressed(tiny_policy()).provenance[-1] == (
        "ptdq (3 layers in int8, activation ranges at run time)"
    )
    assert compressed(tiny_policy(), preset="paper").provenance[-1].startswith("ptdq:preset=paper (")


@pytest.mark.parametrize("form", ["integer", "graph"])
def test_a_quantized_policy_is_refused(form: str):
    with pytest.raises(PipelineError, match="Put the quantizer last"):
        compressed(tiny_policy(form))


def test_weights_that_are_no_numbers_are_refused():
    policy = tiny_policy()
    network = policy.network
    with torch.no_grad():
        network[1].weight[0, 0] = float("nan")
    with pytest.raises(UsageError, match="NaN or infinity"):
        compressed(policy.with_network(network, "broken"))
