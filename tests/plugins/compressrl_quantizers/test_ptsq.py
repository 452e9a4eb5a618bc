"""PTSQ: ranges calibrated on visited states, no training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from compressrl.errors import OptionError, PipelineError, UsageError
from compressrl.lab import Lab
from compressrl.networks import model_size, onnx_graph
from compressrl.policy import Policy
from compressrl.testing import CompressorContract, tiny_policy
from compressrl.testing.policies import states
from compressrl_quantizers.ptsq import PostTrainingStaticQuantization


def compressed(policy: Policy, **options) -> Policy:
    lab = Lab(policy.env_id, baseline=policy)
    return PostTrainingStaticQuantization(**({"calibration_steps": 500} | options)).compress(policy, lab)


def graph_arrays(policy: Policy) -> dict[str, np.ndarray]:
    model = onnx.load_from_string(policy.graph)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def error(policy: Policy, result: Policy) -> float:
    visited = Lab(policy.env_id).collect(policy, 300)
    return float(np.abs(result(visited) - policy(visited)).mean())


class TestBest(CompressorContract):
    plugin = PostTrainingStaticQuantization
    options = {"calibration_steps": 200}


class TestPaper(CompressorContract):
    plugin = PostTrainingStaticQuantization
    options = {"calibration_steps": 200, "preset": "paper"}


@pytest.mark.parametrize("preset", ["best", "paper"])
def test_it_runs_by_integer_kernels_at_little_more_than_a_quarter_of_the_size(preset):
    policy = tiny_policy(hidden=(64, 64))
    result = compressed(policy, preset=preset)
    found = onnx_graph.operators(result.to_onnx())
    assert found["QGemm"] == 3
    # The ReLUs' outputs are quantized by the kernels themselves, and the last output stays float.
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 0)
    before, after = model_size.measure(policy), model_size.measure(result)
    assert (after.parameters, after.bits) == (before.parameters, 8)
    assert after.size_bytes < 0.4 * before.size_bytes


@pytest.mark.parametrize("preset", ["best", "paper"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_it_acts_nearly_as_before(activation, preset):
    policy = tiny_policy(activation=activation)
    assert 0 < error(policy, compressed(policy, preset=preset)) < 0.03


def test_best_is_better_where_rows_differ_in_size():
    """A single scale for the matrix leaves a weak output hardly any levels."""
    policy = tiny_policy(hidden=(64, 64))
    network = policy.network
    with torch.no_grad():
        network[5].weight[0].mul_(0.02)
    uneven = policy.with_network(network, "uneven")
    visited = Lab(policy.env_id).collect(uneven, 300)
    best, paper = (
        np.abs(compressed(uneven, preset=preset)(visited) - uneven(visited))[:, 0].mean()
        for preset in ("best", "paper")
    )
    assert best < 0.3 * paper


def test_biases_are_corrected_where_asked():
    policy = tiny_policy(hidden=(64, 64))
    visited = Lab(policy.env_id, baseline=policy).collect(policy, 500)
    shifts = [
        np.abs((result(visited) - policy(visited)).mean(axis=0)).max()
        for result in (compressed(policy, bits=2, bias_correction=on) for on in (True, False))
    ]
    assert shifts[0] < 0.5 * shifts[1]


def test_weights_of_few_bits_cost_accuracy_and_save_memory():
    policy = tiny_policy(hidden=(64, 64))
    wide, narrow, mixed = (
        compressed(policy, **options)
        for options in ({}, {"bits": 3, "first_bits": 3, "last_bits": 3}, {"bits": 3, "last_bits": 6})
    )
    assert [layer.bits for layer in narrow.integer.layers] == [3, 3, 3]
    assert [layer.bits for layer in mixed.integer.layers] == [8, 3, 6]
    assert [int(np.abs(layer.w8).max()) for layer in mixed.integer.layers] == [127, 3, 31]
    assert error(policy, wide) < error(policy, mixed) < error(policy, narrow)
    sizes = [model_size.measure(p).size_bytes for p in (narrow, mixed, wide)]
    assert sizes == sorted(sizes)


def test_bits_that_would_change_nothing_are_refused():
    policy = tiny_policy(hidden=(16,))
    with pytest.raises(PipelineError, match="first_bits"):
        compressed(policy, bits=4)
    assert [layer.bits for layer in compressed(policy, first_bits=4).integer.layers] == [4, 8]


def test_the_paper_takes_one_scale_for_a_matrix_and_the_whole_range():
    policy = replace(tiny_policy(), layers=tiny_policy().layers[1:])  # without standardisation
    visited = Lab(policy.env_id, baseline=policy).collect(policy, 500)
    result = compressed(policy, preset="paper")
    arrays = graph_arrays(result)
    nodes = onnx.load_from_string(result.graph).graph.node
    first = next(node for node in nodes if node.op_type == "QuantizeLinear")
    assert arrays[first.input[1]] == pytest.approx((visited.max() - visited.min()) / 255, rel=1e-4)
    matrices = [n for n in nodes if n.input[0] in arrays and arrays[n.input[0]].ndim == 2]
    assert [arrays[node.input[1]].size for node in matrices] == [1, 1, 1]


def test_the_paper_quantizes_a_foreign_network_by_its_graph():
    """One with skip connections: their sums are integer operators too."""
    policy = tiny_policy("foreign")
    result = compressed(policy, preset="paper")
    assert onnx_graph.operators(result.graph)["QLinearAdd"] == 1
    assert error(policy, result) < 0.02
    with pytest.raises(PipelineError, match=r"row of linear layers"):
        compressed(policy)


@pytest.mark.parametrize("preset", ["best", "paper"])
def test_the_output_before_tanh_stays_float(preset):
    assert len(np.unique(compressed(tiny_policy(), preset=preset)(states(1000))[:, 0])) > 512


def test_the_paper_refuses_options_that_it_fixes():
    with pytest.raises(OptionError, match=r"preset=paper has settings of its own; leave bits, method out"):
        PostTrainingStaticQuantization(preset="paper", bits=4, method="mse")
    with pytest.raises(OptionError, match=r"method=action has no percentile"):
        PostTrainingStaticQuantization(percentile=90.0)


def test_the_provenance_tells_options_and_figures():
    assert compressed(tiny_policy(), method="entropy").provenance[-1] == (
        "ptsq:calibration_steps=500,method=entropy (ranges from 500 visited states)"
    )


@pytest.mark.parametrize("form", ["integer", "graph"])
def test_a_quantized_policy_is_refused(form: str):
    with pytest.raises(PipelineError, match="Put the quantizer last"):
        compressed(tiny_policy(form))


def test_weights_that_are_no_numbers_are_refused():
    policy = tiny_policy()
    network = policy.network
    with torch.no_grad():
        network[1].weight[0, 0] = float("inf")
    with pytest.raises(UsageError, match="NaN or infinity"):
        compressed(policy.with_network(network, "broken"))


@pytest.mark.parametrize("preset", ["best", "paper"])
@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_features_that_stand_still_are_taken(method, preset):
    """A layer whose inputs are all zero has no range."""
    policy = tiny_policy()
    network = policy.network
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.fill_(-1.0)
    silent = policy.with_network(network, "its first layer is silent")
    options = {"method": method} if preset == "best" else {"preset": preset}
    assert compressed(silent, **options)(states()) == pytest.approx(silent(states()), abs=0.02)
