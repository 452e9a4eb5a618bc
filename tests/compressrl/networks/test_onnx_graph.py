"""Graphs that policies write, against the reference execution and in real ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compressrl.errors import CompressrlError, PipelineError
from compressrl.networks import layers, onnx_graph
from compressrl.networks.integer import IntegerLayer, IntegerNetwork
from compressrl.testing.policies import states, tiny_policy

VECTOR = np.array([0.5, -1.0, 2.0], np.float32)


def linear(rng: np.random.Generator, inputs: int, outputs: int) -> layers.Linear:
    return layers.Linear(rng.normal(size=(outputs, inputs)), rng.normal(size=outputs))


def integer_network(
    rng: np.random.Generator, sizes: tuple[int, ...], activation: str = "relu"
) -> IntegerNetwork:
    """Random integer layers. After a ReLU zero is level 0, as in every range without negative values."""
    row = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        last = index == len(sizes) - 2
        row.append(
            IntegerLayer(
                w8=rng.integers(-127, 128, (outputs, inputs)),
                w_scale=rng.uniform(0.5, 1.0, outputs) / 127 / np.sqrt(inputs),
                bias=rng.normal(0, 0.2, outputs),
                x_scale=8 / 255,
                x_zero=0 if index and activation == "relu" else 128,
                activation=None if last else activation,
            )
        )
    return IntegerNetwork((), tuple(row), (layers.Activation("tanh"),))


def inputs_of(graph: bytes) -> list[tuple[str, list[object]]]:
    values = [*onnx.load_from_string(graph).graph.input, *onnx.load_from_string(graph).graph.output]
    return [
        (v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values
    ]  # fmt: skip


@pytest.mark.parametrize(
    "layer",
    [
        linear(np.random.default_rng(0), 3, 4),
        layers.Standardize(VECTOR, np.abs(VECTOR)),
        layers.Standardize(VECTOR, np.abs(VECTOR), clip=0.7),
        layers.Rescale(VECTOR, -VECTOR),
        layers.Clip(VECTOR - 1, VECTOR + 0.2),
        *(layers.Activation(name) for name in layers.ACTIVATIONS),
    ],
    ids=lambda layer: getattr(layer, "name", layer.kind),
)
def test_every_layer_is_written_as_it_computes(layer: layers.Layer):
    x = states(50, spread=2.0)
    act = onnx_graph.reference_function(onnx_graph.write_float((layer,), 3))
    assert act(x) == pytest.approx(layer(x), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("tail", [(), (layers.Rescale(VECTOR[:1], np.zeros(1)),)])
def test_no_action_is_beyond_what_tanh_reaches(tail: tuple[layers.Layer, ...]):
    """ONNX Runtime's own tanh is 1.0000001 for some numbers; an environment may refuse such an action."""
    x = np.linspace(1, 20, 80_000, dtype=np.float32)[:, None]
    graph = onnx_graph.write_float((layers.Activation("tanh"), *tail), 1)
    found = onnx_graph.session(graph).run(None, {"observation": x})[0]
    assert found.max() == (VECTOR[0] if tail else 1)


def test_a_float_policy_agrees_with_its_graph():
    policy, x = tiny_policy(), states(50)
    assert onnx_graph.reference_function(policy.to_onnx())(x) == pytest.approx(policy(x), abs=1e-5)


@pytest.mark.parametrize("form", ["network", "foreign", "integer"])
def test_names_and_shapes_are_the_agreed_ones(form: str):
    graph = tiny_policy(form).to_onnx()
    assert inputs_of(graph) == [("observation", ["batch", 3]), ("action", ["batch", 2])]


@pytest.mark.parametrize("form", ["network", "foreign", "integer"])
def test_a_graph_takes_any_batch(form: str):
    policy = tiny_policy(form)
    engine, x = onnx_graph.session(policy.to_onnx()), states(7)
    assert engine.run(None, {"observation": x})[0] == pytest.approx(policy(x), abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from(sorted(layers.ACTIVATIONS)), st.integers(1, 40))
def test_an_integer_network_agrees_with_its_graph(seed: int, activation: str, width: int):
    rng = np.random.default_rng(seed)
    network = integer_network(rng, (5, width, width, 2), activation)
    x = rng.normal(size=(40, 5)).astype(np.float32)
    difference = np.abs(onnx_graph.reference_function(onnx_graph.write_integer(network, 5))(x) - network(x))
    # One level of a hidden unit at most, where float rounding crosses a boundary.
    assert difference.mean() < 1e-4


@pytest.mark.parametrize("activation", sorted(layers.ACTIVATIONS))
def test_an_integer_network_runs_by_integer_kernels(activation: str):
    graph = onnx_graph.write_integer(
        integer_network(np.random.default_rng(0), (17, 64, 64, 6), activation), 17
    )
    onnx_graph.assert_integer_kernels(graph)
    found = onnx_graph.operators(graph)
    assert found["QGemm"] == 3
    # One for the observation; a ReLU's output is quantized by the kernel itself.
    assert found["QuantizeLinear"] == (1 if activation == "relu" else 3)
    assert "DequantizeLinear" not in found


def test_the_last_layer_stays_float():
    """Pre-tanh outputs take more than 256 values."""
    network = integer_network(np.random.default_rng(0), (3, 32, 1))
    act = onnx_graph.reference_function(onnx_graph.write_integer(network, 3))
    assert len(np.unique(act(states(2000)))) > 512


def test_a_wide_layer_agrees_exactly():
    network = integer_network(np.random.default_rng(1), (1500, 2))
    x = np.random.default_rng(2).normal(size=(5, 1500)).astype(np.float32)
    act = onnx_graph.reference_function(onnx_graph.write_integer(network, 1500))
    assert act(x) == pytest.approx(network(x), abs=1e-6)


class Doubling(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x.cumsum(dim=1)


class BranchingOnData(nn.Module):
    """Traced once, it keeps the branch that those states took."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x


class BranchingOnBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if len(x) > 1 else x


class NotExportable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_a_foreign_module_agrees_with_its_graph():
    x = states(20)
    act = onnx_graph.reference_function(onnx_graph.export_module(Doubling(), 3))
    assert act(x) == pytest.approx(2 * x.cumsum(axis=1), rel=1e-5)


@pytest.mark.parametrize(
    "module",
    [BranchingOnData(), BranchingOnBatch(), NotExportable()],
    ids=lambda module: type(module).__name__,
)
def test_a_module_that_cannot_be_exported_is_an_error_in_words(module: nn.Module):
    with pytest.raises(PipelineError, match=rf"{type(module).__name__}.*with_graph") as error:
        onnx_graph.export_module(module, 3)
    assert len(str(error.value).splitlines()) == 1


def test_exporting_does_not_touch_the_module_or_the_generator():
    module, state = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), torch.random.get_rng_state()
    before = module[0].weight.detach().clone()
    onnx_graph.export_module(module, 3)
    assert torch.equal(module[0].weight, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_session_uses_one_thread():
    options = onnx_graph.session(tiny_policy().to_onnx()).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_what_is_no_graph_is_an_error_in_words():
    with pytest.raises(CompressrlError, match="cannot load the policy's graph"):
        onnx_graph.session(b"not a model")


def dynamically_quantized() -> bytes:
    """Rounds its input to 255 levels between the least and the greatest value of the batch."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["observation"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["action"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
        for name in ("observation", "action")
    )
    model = helper.make_model(
        helper.make_graph(nodes, "dynamic", [x], [y]),
        opset_imports=[helper.make_opsetid("", onnx_graph.OPSET)],
        ir_version=onnx_graph.IR_VERSION,
    )
    return model.SerializeToString()


def test_a_batch_of_a_dynamic_graph_is_its_rows():
    graph, x = dynamically_quantized(), states(10)
    act = onnx_graph.reference_function(graph)
    assert np.array_equal(act(x), np.stack([act(row) for row in x]))
    as_one = onnx_graph.session(graph).run(None, {"observation": x})[0]
    assert not np.array_equal(act(x), as_one), "the example must depend on the batch"


def test_operators_are_those_that_really_run():
    graph = tiny_policy().to_onnx()
    assert onnx_graph.operators(graph, optimised=False)["Gemm"] == 3
    assert onnx_graph.operators(graph) == onnx_graph.operators(graph)
    assert onnx_graph.operators(graph)["FusedGemm"] == 3


def test_float_kernels_are_found():
    with pytest.raises(CompressrlError, match="FusedGemm"):
        onnx_graph.assert_integer_kernels(tiny_policy().to_onnx())


def test_a_float_bias_that_undoes_the_quantization_is_found():
    """The trap that `write_integer` avoids: ONNX Runtime turns such a layer back into float."""
    model = onnx.load_from_string(
        onnx_graph.write_integer(integer_network(np.random.default_rng(0), (3, 8, 2)), 3)
    )
    biased = [node for node in model.graph.node if node.op_type == "Gemm"][-1]
    dequantize = next(node for node in model.graph.node if biased.input[2] in node.output)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    bias = arrays[dequantize.input[0]] * arrays[dequantize.input[1]]
    model.graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), "float_bias"))
    biased.input[2] = "float_bias"
    with pytest.raises(CompressrlError, match="Gemm"):
        onnx_graph.assert_integer_kernels(model.SerializeToString())


def test_a_graph_without_products_has_no_integer_kernels():
    with pytest.raises(CompressrlError, match="integer kernels"):
        onnx_graph.assert_integer_kernels(dynamically_quantized())


def test_importing_it_imports_no_engine():
    code = (
        "import sys, compressrl.networks.onnx_graph\n"
        "print(*{'onnx', 'onnxruntime', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
