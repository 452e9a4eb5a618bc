"""Sizes counted by hand, in every form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from compressrl import layers, model_size
from compressrl.integer import IntegerNetwork
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
    # The graph also stores a zero point a row and the scales of the biases.
    assert integer.size_bytes <= graph.size_bytes <= integer.size_bytes + 5 * BIASES + 8


def test_zeroed_weights_show():
    weight = np.ones((4, 5), np.float32)
    weight[:2] = 0
    row = (layers.Linear(weight, np.zeros(4)),)
    policy = replace(tiny("network"), layers=row, observation_size=5)
    assert model_size.measure(policy).nonzero_fraction == 0.5
    as_graph = policy.with_graph(policy.to_onnx(), "written")
    assert model_size.measure(as_graph).nonzero_fraction == 0.5


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
