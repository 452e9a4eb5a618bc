"""PTSQ: ONNX Runtime's static quantization, calibrated on visited states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from compressrl import model_size, onnx_graph
from compressrl.errors import PipelineError, UsageError
from compressrl.lab import Lab
from compressrl.policy import Policy
from compressrl.testing import CompressorContract, tiny_policy
from compressrl.testing.policies import states
from compressrl_quantizers.ptsq import PostTrainingStaticQuantization


def compressed(policy: Policy, **options) -> Policy:
    lab = Lab(policy.env_id, baseline=policy)
    return PostTrainingStaticQuantization(**({"calibration_steps": 500} | options)).compress(policy, lab)


def scales(policy: Policy) -> list[np.ndarray]:
    """Scales of the activations, in the order of the layers."""
    model = onnx.load_from_string(policy.graph)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [arrays[node.input[1]] for node in model.graph.node if node.op_type == "QuantizeLinear"]


class TestContract(CompressorContract):
    plugin = PostTrainingStaticQuantization
    options = {"calibration_steps": 200}


def test_it_runs_by_integer_kernels_at_little_more_than_a_quarter_of_the_size():
    policy = tiny_policy(hidden=(64, 64))
    result = compressed(policy)
    found = onnx_graph.operators(result.graph)
    assert found["QGemm"] == 3
    # The ReLUs' outputs are quantized by the kernels themselves, and the last output stays float.
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 0)
    before, after = model_size.measure(policy), model_size.measure(result)
    assert (after.parameters, after.bits) == (before.parameters, 8)
    assert after.size_bytes < 0.4 * before.size_bytes


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_it_acts_nearly_as_before(activation: str):
    policy = tiny_policy(activation=activation)
    visited = Lab(policy.env_id).collect(policy, 200)
    difference = np.abs(compressed(policy)(visited) - policy(visited))
    assert 0 < difference.mean() < 0.03


def test_a_foreign_network_is_quantized_by_its_graph():
    """One with skip connections: their sums are integer operators too."""
    policy = tiny_policy("foreign")
    visited = Lab(policy.env_id).collect(policy, 200)
    result = compressed(policy)
    assert onnx_graph.operators(result.graph)["QLinearAdd"] == 1
    assert np.abs(result(visited) - policy(visited)).mean() < 0.02


def test_the_output_before_tanh_stays_float():
    result = compressed(tiny_policy())
    assert len(np.unique(result(states(1000))[:, 0])) > 512


def test_the_input_range_is_that_of_the_states_the_policy_visits():
    policy = replace(tiny_policy(), layers=tiny_policy().layers[1:])  # without standardisation
    visited = Lab(policy.env_id, baseline=policy).collect(policy, 500)
    assert scales(compressed(policy))[0] == pytest.approx((visited.max() - visited.min()) / 255, rel=1e-4)


def test_methods_differ_as_they_should():
    policy = tiny_policy()
    minmax = scales(compressed(policy))
    cut = scales(compressed(policy, method="percentile", percentile=90.0))
    entropy = scales(compressed(policy, method="entropy"))
    assert all(0.1 * whole < part < 0.9 * whole for part, whole in zip(cut, minmax, strict=True))
    assert all(0.49 * whole < part <= whole for part, whole in zip(entropy, minmax, strict=True))
    assert entropy != minmax


@pytest.mark.parametrize(("per_channel", "size"), [(True, 32), (False, 1)])
def test_channels_have_scales_of_their_own_where_asked(per_channel: bool, size: int):
    model = onnx.load_from_string(compressed(tiny_policy(), per_channel=per_channel).graph)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    matrices = [n for n in model.graph.node if n.input[0] in arrays and arrays[n.input[0]].ndim == 2]
    assert arrays[matrices[0].input[1]].size == size


def test_a_reduced_range_leaves_a_bit_free():
    for reduce_range, largest in ((False, 127), (True, 64)):
        model = onnx.load_from_string(compressed(tiny_policy(), reduce_range=reduce_range).graph)
        arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
        assert max(np.abs(a.astype(int)).max() for a in arrays if a.dtype == np.int8) == largest


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


def test_features_that_stand_still_are_taken():
    """The tracer of ranges meets a layer whose inputs are all zero."""
    policy = tiny_policy()
    network = policy.network
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.fill_(-1.0)
    silent = policy.with_network(network, "its first layer is silent")
    assert compressed(silent)(states()) == pytest.approx(silent(states()), abs=0.02)
