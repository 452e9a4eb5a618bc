"""What the weights of a policy occupy, counted from the packed arrays themselves.

Framework counters are no help: the parameters and buffers of a torch dynamic-int8 model sum to 0 bytes, and
a pruning by mask doubles a state dict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from compressrl.networks import layers
from compressrl.networks.integer import IntegerLayer
from compressrl.policy import Policy
from compressrl.records import ModelSize

# Operators that multiply by a matrix: position of its operand, and of its zero point where it has one.
_PRODUCTS = {
    "Gemm": (1, None),
    "MatMul": (1, None),
    "Conv": (1, None),
    "MatMulInteger": (1, 3),
    "ConvInteger": (1, 3),
    "QLinearMatMul": (3, 5),
    "QLinearConv": (3, 5),
}
_BIAS_OPERANDS = {"Gemm": 2, "Conv": 2, "QLinearConv": 8}


_POINTER_BYTES = 4  # of a compressed sparse row
_COLUMN_BYTES = 2


@dataclass(frozen=True)
class _Matrix:
    """A weight matrix (or convolution kernel): its shape, entries that are not zero, width of one in bits."""

    shape: tuple[int, ...]
    nonzero: int
    bits: int

    @property
    def entries(self) -> int:
        return math.prod(self.shape)

    @property
    def dense_bytes(self) -> int:
        return _packed_bytes(self.entries, self.bits)

    @property
    def sparse_bytes(self) -> int:
        """The smallest of: a bitmap and the non-zero entries; compressed rows (or columns); dense."""
        values = _packed_bytes(self.nonzero, self.bits)
        bitmap = _packed_bytes(self.entries, 1) + values
        compressed = _POINTER_BYTES * (min(self.shape) + 1) + _COLUMN_BYTES * self.nonzero + values
        return min(bitmap, compressed, self.dense_bytes)


def measure(policy: Policy) -> ModelSize:
    """Size of a policy in any form; see `compressrl.records.ModelSize`."""
    graph = policy.to_onnx()
    if policy.layers is not None:
        matrices, biases, size = _float(policy.layers)
    elif policy.integer_network is not None:
        network = policy.integer_network
        matrices, biases, size = _integer(network.layers)
        size += _arrays_bytes((*network.inputs, *network.outputs))
    else:
        matrices, biases, size = _Graph(graph).measure()
    entries = sum(m.entries for m in matrices)
    return ModelSize(
        parameters=entries + biases,
        size_bytes=size,
        sparse_bytes=size + sum(m.sparse_bytes - m.dense_bytes for m in matrices),
        serialized_bytes=len(graph),
        bits=sum(m.entries * m.bits for m in matrices) / entries if entries else 0,
        nonzero_fraction=sum(m.nonzero for m in matrices) / entries if entries else 1.0,
    )


Measured = tuple[list[_Matrix], int, int]  # matrices, elements of biases, bytes


def _float(row: tuple[layers.Layer, ...]) -> Measured:
    linears = [layer for layer in row if isinstance(layer, layers.Linear)]
    matrices = [_Matrix(w.shape, int(np.count_nonzero(w)), 32) for w in (linear.weight for linear in linears)]
    return matrices, sum(linear.bias.size for linear in linears), _arrays_bytes(row)


def _arrays_bytes(row: Iterable[layers.Layer]) -> int:
    """Bytes of every array of float layers: weights, biases, standardisation, action bounds."""
    values = (getattr(layer, field.name) for layer in row for field in fields(layer))
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def _integer(row: Iterable[IntegerLayer]) -> Measured:
    matrices, biases, size = [], 0, 0
    for layer in row:
        matrices.append(_Matrix(layer.w8.shape, int(np.count_nonzero(layer.w8)), layer.bits))
        biases += layer.b32.size
        # float32 x_scale and uint8 x_zero of the layer's input: 5 bytes.
        size += _packed_bytes(layer.w8.size, layer.bits) + layer.w_scale.nbytes + layer.b32.nbytes + 5
    return matrices, biases, size


def _packed_bytes(count: int, bits: int) -> int:
    return -(-count * bits // 8)


class _Graph:
    """An ONNX graph, quantized or not, with its constants."""

    def __init__(self, content: bytes) -> None:
        import onnx

        self.graph = onnx.load_from_string(content).graph
        self.producers = {output: node for node in self.graph.node for output in node.output}
        self.constants: Mapping[str, Any] = {tensor.name: tensor for tensor in self.graph.initializer}
        self.constants |= {
            node.output[0]: node.attribute[0].t
            for node in self.graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }

    def measure(self) -> Measured:
        matrices, biases = [], 0
        for node in self.graph.node:
            if node.op_type in _PRODUCTS:
                matrices += self._matrix(node)
            biases += self._bias_elements(node)
        size = sum(_packed_bytes(_elements(t), _bits(t)) for t in self.constants.values())
        return matrices, biases, size

    def _matrix(self, node: Any) -> list[_Matrix]:
        """The constant matrix that this node multiplies by; [] where both operands are computed."""
        from onnx import numpy_helper

        operand, zero_operand = _PRODUCTS[node.op_type]
        name, zero_name = node.input[operand], _input(node, zero_operand)
        dequantize = self.producers.get(name)
        if dequantize is not None and dequantize.op_type == "DequantizeLinear":
            name, zero_name = dequantize.input[0], _input(dequantize, 2)
        tensor = self.constants.get(name)
        if tensor is None:
            return []
        values = numpy_helper.to_array(tensor)
        zero = numpy_helper.to_array(self.constants[zero_name]) if zero_name in self.constants else 0
        # One zero point a row or column: symmetric ones are all alike, and so are ONNX Runtime's.
        nonzero = int(np.count_nonzero(values != np.ravel(zero)[0]))
        return [_Matrix(values.shape, nonzero, _bits(tensor))]

    def _bias_elements(self, node: Any) -> int:
        """Elements of the constant vector that this node adds to a matrix product, 0 where it adds none."""
        if node.op_type in _BIAS_OPERANDS:
            return self._vector(_input(node, _BIAS_OPERANDS[node.op_type]))
        if node.op_type not in ("Add", "Sub"):
            return 0
        one, other = node.input
        for vector, product in ((one, other), (other, one)):
            if vector in self.constants and self._is_product(product):
                return self._vector(vector)
        return 0

    def _vector(self, name: str) -> int:
        dequantize = self.producers.get(name)
        if dequantize is not None and dequantize.op_type == "DequantizeLinear":
            name = dequantize.input[0]
        return _elements(self.constants[name]) if name in self.constants else 0

    def _is_product(self, name: str) -> bool:
        """Whether this value is a matrix product, perhaps converted and scaled (dynamic quantization)."""
        node = self.producers.get(name)
        if node is None:
            return False
        if node.op_type in ("Cast", "Mul"):
            return any(self._is_product(operand) for operand in node.input)
        return node.op_type in _PRODUCTS


def _input(node: Any, position: int | None) -> str:
    """Name of an optional input, "" where the node has none there."""
    return node.input[position] if position is not None and position < len(node.input) else ""


def _elements(tensor: Any) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64))


def _bits(tensor: Any) -> int:
    from onnx import TensorProto, helper

    if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4):
        return 4
    return 8 * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
