"""Sizes counted by hand, in every form."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from torch.nn.utils import prune

from compressrl import plugins
from compressrl.errors import PipelineError
from compressrl.lab import Lab
from compressrl.networks import layers, model_size
from compressrl.networks.integer import IntegerNetwork
from compressrl.testing.policies import tiny_policy

# The tiny policy: 3 observations, two hidden layers of 8, 2 actions.
WEIGHTS, BIASES = 3 * 8 + 8 * 8 + 8 * 2, 8 + 8 + 2
STANDARDISATION, SCALING = 2 * 3, 2 * 2


def tiny(form: str):
    return tiny_policy(form, hidden=(8, 8))


def test_a_float_network():
    size = model_size.measure(tiny("network"))
    assert size.parameters == WEIGHTS + BIASES
    assert size.size_bytes == 4 * (WEIGHTS + BIASES + STANDARDISATION + SCALING)
    assert (size.bits, size.nonzero_fraction) == (32, 1.0)


def test_an_integer_network():
    policy = tiny("integer")
    size = model_size.measure(policy)
    assert size.parameters == WEIGHTS + BIASES
    scales = 4 * BIASES + 3 * (4 + 1)  # one a row; scale and zero point of each layer's input
    assert size.size_bytes == WEIGHTS + 4 * BIASES + scales + 4 * (STANDARDISATION + SCALING)
    assert size.bits == 8
    zeros = sum((layer.w8 == 0).sum() for layer in policy.integer.layers)
    assert size.nonzero_fraction == pytest.approx(1 - zeros / WEIGHTS)


def test_four_bits_are_half_a_byte():
    policy = tiny("integer")
    narrow = tuple(replace(layer, w8=layer.w8 // 19, bits=4) for layer in policy.integer.layers)
    network = IntegerNetwork(policy.integer.inputs, narrow, policy.integer.outputs)
    wide, size = model_size.measure(policy), model_size.measure(policy.with_integer(network, "4 bits"))
    assert wide.size_bytes - size.size_bytes == WEIGHTS // 2
    assert size.bits == 4
    *others, last = narrow
    mixed = IntegerNetwork(network.inputs, (*others, replace(last, bits=8)), network.outputs)
    weights = [layer.w8.size for layer in narrow]
    expected = (4 * sum(weights) + 4 * weights[-1]) / sum(weights)
    assert model_size.measure(policy.with_integer(mixed, "mixed")).bits == pytest.approx(expected)


@pytest.mark.parametrize("form", ["network", "foreign", "integer", "graph"])
def test_serialized_bytes_are_the_onnx_file(form: str):
    policy = tiny(form)
    assert model_size.measure(policy).serialized_bytes == len(policy.to_onnx())


@pytest.mark.parametrize("form", ["foreign", "graph"])
def test_a_float_graph_counts_as_the_network_it_came_from(form: str):
    size = model_size.measure(tiny(form))
    assert size.parameters == WEIGHTS + BIASES
    # The clip of the standardisation, two scalars, and what the tracer leaves: a few numbers.
    assert size.size_bytes == pytest.approx(4 * (WEIGHTS + BIASES + STANDARDISATION + SCALING), abs=32)
    assert (size.bits, size.nonzero_fraction) == (32, 1.0)


def test_a_quantized_graph_counts_as_the_integer_network_it_came_from():
    policy = tiny("integer")
    integer = model_size.measure(policy)
    graph = model_size.measure(policy.with_graph(policy.to_onnx(), "written"))
    assert (graph.parameters, graph.bits) == (integer.parameters, integer.bits)
    assert graph.nonzero_fraction == integer.nonzero_fraction
    # The graph also stores a zero point a row, the scales of the biases, and the ends of two clips.
    assert integer.size_bytes <= graph.size_bytes <= integer.size_bytes + 5 * BIASES + 16


def test_zeroed_weights_show():
    weight = np.ones((4, 5), np.float32)
    weight[:2] = 0
    row = (layers.Linear(weight, np.zeros(4)),)
    policy = replace(tiny("network"), layers=row, observation_size=5)
    assert model_size.measure(policy).nonzero_fraction == 0.5
    as_graph = policy.with_graph(policy.to_onnx(), "written")
    assert model_size.measure(as_graph).nonzero_fraction == 0.5


def masked(shape: tuple[int, int], nonzero: int):
    """A policy of a single matrix of this shape with this many ones, at its start."""
    weight = np.zeros(shape, np.float32)
    weight.flat[:nonzero] = 1
    row = (layers.Linear(weight, np.zeros(shape[0], np.float32)),)
    return replace(tiny("network"), layers=row, observation_size=shape[1])


@pytest.mark.parametrize(
    ("nonzero", "matrix_bytes"),
    [
        (200, 200 * 4),  # dense: a bitmap would come on top
        (100, 200 // 8 + 100 * 4),
        (2, 4 * (4 + 1) + 2 * (2 + 4)),  # four rows: CSR has the shorter pointers
        (0, 4 * (4 + 1)),
    ],
)
@pytest.mark.parametrize("form", ["network", "graph"])
@pytest.mark.parametrize("shape", [(4, 50), (50, 4)])
def test_the_sparse_size_is_that_of_the_smallest_encoding(shape, nonzero, matrix_bytes, form):
    policy = masked(shape, nonzero)
    if form == "graph":
        policy = policy.with_graph(policy.to_onnx(), "written")
    size = model_size.measure(policy)
    assert size.size_bytes == 4 * (200 + shape[0]), "zeros are stored"
    assert size.sparse_bytes == matrix_bytes + 4 * shape[0]


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_the_sparse_size_holds_the_nonzero_weights_and_never_exceeds_the_dense_one(rows, columns, share):
    nonzero = round(share * rows * columns)
    size = model_size.measure(masked((rows, columns), nonzero))
    assert 4 * nonzero <= size.sparse_bytes <= size.size_bytes


def test_sparse_weights_of_eight_bits_are_a_byte_each():
    policy = tiny("integer")
    hidden = policy.integer.layers[1]  # 8 x 8
    thinned = replace(hidden, w8=np.eye(8, dtype=np.int8))
    row = (policy.integer.layers[0], thinned, policy.integer.layers[2])
    network = IntegerNetwork(policy.integer.inputs, row, policy.integer.outputs)
    before, after = model_size.measure(policy), model_size.measure(policy.with_integer(network, "thinned"))
    assert before.sparse_bytes == before.size_bytes == after.size_bytes
    assert after.size_bytes - after.sparse_bytes == 64 - (8 + 8)


def test_a_pruning_by_mask_doubles_nothing():
    """torch keeps the original weights and a mask beside what it computes with."""
    policy = tiny("network")
    module = policy.network
    dense = len(module.state_dict())
    for child in module:
        if isinstance(child, torch.nn.Linear):
            prune.l1_unstructured(child, "weight", amount=0.9)
    assert len(module.state_dict()) > dense

    size = model_size.measure(policy.with_network(module, "masked"))
    assert size.size_bytes == model_size.measure(policy).size_bytes
    assert size.nonzero_fraction == pytest.approx(0.1, abs=0.02)
    assert size.sparse_bytes < 0.5 * size.size_bytes


def test_dynamic_int8_is_a_byte_a_weight_and_never_nothing():
    """The parameters and buffers of torch's own dynamic int8 sum to 0 bytes; it is refused, not sized."""
    policy = tiny("network")
    lab = Lab(env_id=policy.env_id, baseline=policy)
    size = model_size.measure(plugins.create("compressor", "ptdq").compress(policy, lab))
    assert (size.bits, size.parameters) == (8, WEIGHTS + BIASES)
    assert WEIGHTS < size.size_bytes < 0.7 * model_size.measure(policy).size_bytes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated
        packed = torch.ao.quantization.quantize_dynamic(policy.network, {torch.nn.Linear}, torch.qint8)
        held = [t for child in packed if "dynamic" in str(type(child)) for t in child.parameters()]
        assert held == []
        with pytest.raises(PipelineError, match="cannot be exported to ONNX"):
            model_size.measure(policy.with_network(packed, "torch dynamic"))


def test_weights_in_constant_nodes_count():
    """Other tools write constants as nodes instead of initialisers."""
    policy = tiny("graph")
    model = onnx.load_from_string(policy.graph)
    nodes = [
        helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer
    ]
    everything = [*nodes, *model.graph.node]
    del model.graph.initializer[:]
    del model.graph.node[:]
    model.graph.node.extend(everything)
    moved = model_size.measure(policy.with_graph(model.SerializeToString(), "constants moved"))
    stayed = model_size.measure(policy)
    assert (moved.parameters, moved.size_bytes) == (stayed.parameters, stayed.size_bytes)
