"""Policies as TFLite flatbuffers, written with the schema that the LiteRT wheel brings; batch 1.

The integer form becomes int8 operators where TFLite has them: its levels are signed, ours minus 128, and an
int8 layer gives int8, rounded to the levels of the layer that follows. What has no int8 result (the last
layer, or an activation other than ReLU) becomes a float layer on dequantized levels: the same products, added
in float.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array
from compressrl.networks import layers
from compressrl.networks.integer import IntegerLayer, IntegerNetwork
from compressrl.networks.layers import Layer
from compressrl.policy import Policy

SCHEMA_VERSION = 3
SIGNED = 128  # a signed level is the unsigned one minus this
OPERATOR, FUSED = schema.BuiltinOperator, schema.ActivationFunctionType
TYPES = {name: getattr(schema.TensorType, name.upper()) for name in ("float32", "int8", "int32")}
ACTIVATIONS = {
    "relu": OPERATOR.RELU,
    "tanh": OPERATOR.TANH,
    "elu": OPERATOR.ELU,
    "sigmoid": OPERATOR.LOGISTIC,
}
OPTIONS: dict[int, type[Any]] = {
    OPERATOR.FULLY_CONNECTED: schema.FullyConnectedOptionsT,
    OPERATOR.ADD: schema.AddOptionsT,
    OPERATOR.SUB: schema.SubOptionsT,
    OPERATOR.MUL: schema.MulOptionsT,
    OPERATOR.DIV: schema.DivOptionsT,
    OPERATOR.MAXIMUM: schema.MaximumMinimumOptionsT,
    OPERATOR.MINIMUM: schema.MaximumMinimumOptionsT,
}
VERSIONS = {OPERATOR.FULLY_CONNECTED: 5, OPERATOR.DEQUANTIZE: 2}  # the first with int8 by row; others: 1


def write(policy: Policy) -> bytes:
    """The flatbuffer of a policy, (1, observation_size) float32 -> (1, action_size) float32.

    Raises UsageError for foreign torch modules and ONNX graphs.
    """
    writer = _Writer(policy.observation_size)
    if policy.integer_network is not None:
        writer.integer_network(policy.integer_network)
    elif policy.layers is not None:
        writer.floats(policy.layers)
    else:
        what = "an ONNX graph" if policy.foreign is None else f"a {type(policy.foreign).__name__} module"
        raise UsageError(f"This policy is {what}, which has no TFLite form: only rows of plain layers do.")
    return writer.finish()


class _Writer:
    """Builds a graph operator by operator, each on the output of the one before."""

    def __init__(self, observation_size: int) -> None:
        self.buffers = [schema.BufferT()]  # the empty one, of all that is computed
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.width = observation_size
        self.input = self.last = self._tensor("float32", [1, observation_size])

    def floats(self, row: tuple[Layer, ...]) -> None:
        """Append float layers."""
        for layer in row:
            match layer:
                case layers.Linear(weight=weight, bias=bias):
                    self._linear(weight, bias)
                case layers.Activation(name=name):
                    self._activation(name)
                case layers.Standardize(mean=mean, std=std, clip=clip):
                    self._elementwise(OPERATOR.SUB, mean)
                    self._elementwise(OPERATOR.DIV, std)
                    if np.isfinite(clip):
                        self._clip(np.full(1, -clip, np.float32), np.full(1, clip, np.float32))
                case layers.Rescale(scale=scale, offset=offset):
                    self._elementwise(OPERATOR.MUL, scale)
                    self._elementwise(OPERATOR.ADD, offset)
                case layers.Clip(low=low, high=high):
                    self._clip(low, high)

    def integer_network(self, network: IntegerNetwork) -> None:
        """Append a quantized network."""
        self.floats(network.inputs)
        quantized = False
        for layer, following in zip(network.layers, (*network.layers[1:], None), strict=True):
            if not quantized:
                self._apply(OPERATOR.QUANTIZE, [], self._levels(layer))
            quantized = following is not None and layer.activation in (None, "relu")
            if following is not None and quantized:
                self._integer_linear(layer, following)
            else:
                self._dequantized_linear(layer)
        self.floats(network.outputs)

    def _integer_linear(self, layer: IntegerLayer, following: IntegerLayer) -> None:
        weight = self._constant(layer.w8, layer.w_scale)
        bias = self._constant(layer.b32, layer.product_scale)
        self.width = len(layer.w8)
        fused = FUSED.RELU if layer.activation else FUSED.NONE
        self._apply(OPERATOR.FULLY_CONNECTED, [weight, bias], self._levels(following), fused)

    def _dequantized_linear(self, layer: IntegerLayer) -> None:
        self._apply(OPERATOR.DEQUANTIZE, [])
        weight = layer.w8 * layer.w_scale[:, None]
        self._linear(weight, layer.b32 * layer.product_scale)
        if layer.activation:
            self._activation(layer.activation)

    def _linear(self, weight: Float32Array, bias: Any) -> None:
        self.width = len(weight)
        constants = [self._constant(weight), self._constant(np.asarray(bias, np.float32))]
        self._apply(OPERATOR.FULLY_CONNECTED, constants)

    def _activation(self, name: str) -> None:
        before = self.operators[-1].builtinOptions if self.operators else None
        if name == "relu" and isinstance(before, schema.FullyConnectedOptionsT):
            before.fusedActivationFunction = FUSED.RELU
        elif name == "silu":
            x = self.last
            self._apply(OPERATOR.LOGISTIC, [])
            self._apply(OPERATOR.MUL, [x])
        else:
            self._apply(ACTIVATIONS[name], [])

    def _clip(self, low: Float32Array, high: Float32Array) -> None:
        self._elementwise(OPERATOR.MAXIMUM, low)
        self._elementwise(OPERATOR.MINIMUM, high)

    def _elementwise(self, operator: int, values: Float32Array) -> None:
        self._apply(operator, [self._constant(values)])

    def _apply(
        self, operator: int, constants: list[int], output: int | None = None, fused: int = FUSED.NONE
    ) -> None:
        """Append an operator on the last tensor and others; its output is (1, width) float32 by default."""
        if operator not in self.codes:
            self.codes.append(operator)
        output = self._tensor("float32", [1, self.width]) if output is None else output
        index, inputs = self.codes.index(operator), [self.last, *constants]
        applied = _table(schema.OperatorT, opcodeIndex=index, inputs=inputs, outputs=[output])
        if operator in OPTIONS:
            applied.builtinOptions = OPTIONS[operator]()
            applied.builtinOptionsType = getattr(schema.BuiltinOptions, OPTIONS[operator].__name__[:-1])
        if fused != FUSED.NONE:
            applied.builtinOptions.fusedActivationFunction = fused
        self.operators.append(applied)
        self.last = output

    def _levels(self, layer: IntegerLayer) -> int:
        """A tensor of what this layer takes."""
        levels = _quantization(np.full(1, layer.x_scale, np.float32), layer.x_zero - SIGNED)
        return self._tensor("int8", [1, self.width], quantization=levels)

    def _constant(self, values: Any, scale: Float32Array | None = None) -> int:
        """An array; with scales (rows,) its numbers are in units of these."""
        content = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.buffers.append(_table(schema.BufferT, data=content))
        quantization = None if scale is None else _quantization(scale, 0)
        return self._tensor(values.dtype.name, list(values.shape), len(self.buffers) - 1, quantization)

    def _tensor(self, kind: str, shape: list[int], buffer: int = 0, quantization: Any = None) -> int:
        name, number = f"tensor_{len(self.tensors)}", TYPES[kind]
        described = {"shape": shape, "type": number, "buffer": buffer, "quantization": quantization}
        self.tensors.append(_table(schema.TensorT, name=name, **described))
        return len(self.tensors) - 1

    def finish(self) -> bytes:
        """The model, serialised."""
        graph = _table(
            schema.SubGraphT,
            tensors=self.tensors,
            inputs=[self.input],
            outputs=[self.last],
            operators=self.operators,
        )
        model = _table(
            schema.ModelT,
            version=SCHEMA_VERSION,
            description="compressrl",
            operatorCodes=[_operator_code(code) for code in self.codes],
            subgraphs=[graph],
            buffers=self.buffers,
        )
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _operator_code(code: int) -> Any:
    # All operators used here fit the one byte that old readers know; new ones take the larger of the two.
    version = VERSIONS.get(code, 1)
    return _table(schema.OperatorCodeT, deprecatedBuiltinCode=code, builtinCode=code, version=version)


def _quantization(scale: Float32Array, zero: int) -> Any:
    """Of a whole tensor, or of its rows: scales (1,) or (rows,)."""
    zeros = np.full(len(scale), zero, np.int64)
    return _table(schema.QuantizationParametersT, scale=np.array(scale), zeroPoint=zeros)


def _table(kind: type[Any], **values: Any) -> Any:
    """A table of the schema, whose constructors take no arguments in LiteRT 2.0."""
    table = kind()
    for name, value in values.items():
        setattr(table, name, value)
    return table
