"""The ONNX side of a policy: writing graphs, running them, and seeing what ONNX Runtime makes of them.

onnx, onnxruntime and torch are imported when they are needed: a policy that is only read needs none.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressrl.errors import CompressrlError, PipelineError
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.networks import layers
from compressrl.networks.integer import IntegerLayer, IntegerNetwork
from compressrl.networks.layers import Layer

if TYPE_CHECKING:
    import onnxruntime
    import torch
    from torch import nn

INPUT, OUTPUT = "observation", "action"
# Read by every ONNX Runtime since 1.17; the first opset that onnx's own reference evaluator knows whole.
OPSET, IR_VERSION = 19, 9

# Operators of an optimised graph that multiply matrices, in integers and in float.
INTEGER_KERNELS = {"QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
INTEGER_KERNELS |= {"QLinearConv", "ConvInteger", "ConvIntegerToFloat"}
FLOAT_KERNELS = {"Gemm", "FusedGemm", "MatMul", "FusedMatMul", "TransposeMatMul", "Conv", "FusedConv"}

# On x86 CPUs without VNNI, ONNX Runtime's u8 x s8 kernels add in 16 bits and saturate; with this session
# option they do not. No effect elsewhere.
EXACT_INT8 = ("session.x64quantprecision", "1")


def write_float(row: tuple[Layer, ...], observation_size: int) -> bytes:
    """A float graph `observation` (batch, observation_size) -> `action` (batch, action_size)."""
    writer = _Writer()
    for layer in row:
        writer.layer(layer)
    return writer.finish(observation_size, layers.forward(row, _zeros(observation_size)).shape[-1])


def write_integer(network: IntegerNetwork, observation_size: int) -> bytes:
    """A QDQ graph of an integer network, in the pattern that ONNX Runtime runs by integer kernels."""
    writer = _Writer()
    for layer in network.inputs:
        writer.layer(layer)
    for integer_layer in network.layers:
        writer.integer_layer(integer_layer)
    for layer in network.outputs:
        writer.layer(layer)
    return writer.finish(observation_size, network(_zeros(observation_size)).shape[-1])


def with_metadata(graph: bytes, metadata: Mapping[str, str]) -> bytes:
    """The same graph with these entries among its metadata."""
    import onnx

    model = onnx.load_from_string(graph)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


def export_module(module: nn.Module, observation_size: int) -> bytes:
    """The graph of any torch module (batch, observation_size) -> (batch, action_size), traced.

    Raises PipelineError where torch cannot export it, or what it exports computes something else.
    """
    import torch

    states = torch.randn(16, observation_size, generator=torch.Generator().manual_seed(0))
    try:
        graph = _traced(module.eval(), states)
        with torch.no_grad():
            expected = torch.cat([module(state[None]) for state in states]).numpy()
        found = reference_function(graph)(states.numpy())
    except Exception as error:  # torch raises many types for what it cannot trace
        raise PipelineError(_not_exported(module, str(error).strip().splitlines()[0])) from error
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise PipelineError(_not_exported(module, "the traced graph gives other actions than the module"))
    return graph


def _traced(module: nn.Module, states: torch.Tensor) -> bytes:
    import torch

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # The tracing exporter is called old, but the new one needs onnxscript, a further dependency.
        warnings.simplefilter("ignore")
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            module,
            (states,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )
        return path.read_bytes()


def _not_exported(module: nn.Module, reason: str) -> str:
    return (
        f"The network, a {type(module).__name__}, cannot be exported to ONNX: {reason}. Export it yourself "
        "and hand the graph over by policy.with_graph(bytes, step=...), or build it of torch's plain layers."
    )


def session(
    graph: bytes, *, optimised: bool = True, saved_to: Path | None = None
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on one CPU thread that logs errors only.

    optimised: run the graph as ONNX Runtime rewrites it; False: node by node, as written
    saved_to:  file for the graph that is really run
    Raises CompressrlError where ONNX Runtime cannot load the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(*EXACT_INT8)
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if saved_to is not None:
        options.optimized_model_filepath = str(saved_to)
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types are private to a compiled module
        raise CompressrlError(f"ONNX Runtime cannot load the policy's graph: {error}") from error


def reference_function(graph: bytes) -> PolicyFunction:
    """Execute a graph on a single state (observation_size,) or a batch, as it is deployed: at batch 1.

    A batch goes row by row, because dynamic quantization takes its ranges over the whole batch.
    """
    engine = session(graph)
    name = engine.get_inputs()[0].name

    def act(observation: Float32Array) -> Float32Array:
        rows = [engine.run(None, {name: row[None]})[0][0] for row in np.atleast_2d(observation)]
        return np.stack(rows) if observation.ndim == 2 else rows[0]

    return act


def operators(graph: bytes, *, optimised: bool = True) -> Counter[str]:
    """Operator types of a graph, counted; by default those that ONNX Runtime runs after its optimisations."""
    import onnx

    if optimised:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimised.onnx"
            session(graph, saved_to=path)
            graph = path.read_bytes()
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def assert_integer_kernels(graph: bytes) -> None:
    """Raise CompressrlError unless ONNX Runtime does every matrix product of the graph in integers."""
    found = operators(graph)
    if found.keys() & FLOAT_KERNELS or not found.keys() & INTEGER_KERNELS:
        listing = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
        raise CompressrlError(
            f"ONNX Runtime does not run the quantized graph by integer kernels alone; it runs: {listing}."
        )


def _zeros(size: int) -> Float32Array:
    return np.zeros((1, size), np.float32)


class _Writer:
    """Builds a graph node by node, each on the output of the one before."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.last = INPUT

    def constant(self, name: str, array: Any) -> str:
        """A named array of the graph; `name` becomes unique by its position."""
        from onnx import numpy_helper

        name = f"{name}_{len(self.nodes)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def layer(self, layer: Layer) -> None:
        """Append a float layer."""
        x = self.last
        match layer:
            case layers.Linear(weight=weight, bias=bias):
                parameters = self.constant("weight", weight), self.constant("bias", bias)
                self.last = self.node("Gemm", x, *parameters, transB=1)
            case layers.Activation(name=name):
                self.last = self.activation(name, x)
            case layers.Standardize(mean=mean, std=std, clip=clip):
                centred = self.node("Sub", x, self.constant("mean", mean))
                self.last = self.node("Div", centred, self.constant("std", std))
                if np.isfinite(clip):
                    self._clip(np.float32(-clip), np.float32(clip))
            case layers.Rescale(scale=scale, offset=offset):
                scaled = self.node("Mul", self.bounded(), self.constant("scale", scale))
                self.last = self.node("Add", scaled, self.constant("offset", offset))
            case layers.Clip(low=low, high=high):
                self._clip(low, high)

    def activation(self, name: str, x: str) -> str:
        if name == "silu":
            return self.node("Mul", x, self.node("Sigmoid", x))
        return self.node({"relu": "Relu", "tanh": "Tanh", "elu": "Elu", "sigmoid": "Sigmoid"}[name], x)

    def bounded(self) -> str:
        """The latest output, within ±1 where it is of a tanh: ONNX Runtime's gives 1.0000001, too."""
        if self.nodes and self.nodes[-1].op_type == "Tanh":
            ends = self.constant("low", np.float32(-1)), self.constant("high", np.float32(1))
            self.last = self.node("Clip", self.last, *ends)
        return self.last

    def _clip(self, low: Any, high: Any) -> None:
        # Max and Min, because ONNX's Clip takes scalar bounds only.
        above = self.node("Max", self.last, self.constant("low", low))
        self.last = self.node("Min", above, self.constant("high", high))

    def integer_layer(self, layer: IntegerLayer) -> None:
        """Append a quantized layer, so that ONNX Runtime makes one QGemm of it.

        The bias must be int32 in units of x_scale * w_scale: a float one makes ONNX Runtime turn the whole
        layer back into float at every call. Without a following QuantizeLinear the output stays float.
        """
        scale = self.constant("x_scale", np.float32(layer.x_scale))
        zero = self.constant("x_zero", np.uint8(layer.x_zero))
        x = self.node("DequantizeLinear", self.node("QuantizeLinear", self.last, scale, zero), scale, zero)
        w8 = self.constant("w8", layer.w8), self.constant("w_scale", layer.w_scale)
        w_zero = self.constant("w_zero", np.zeros_like(layer.w8, shape=len(layer.w8)))
        w = self.node("DequantizeLinear", *w8, w_zero, axis=0)
        b32 = self.constant("b32", layer.b32), self.constant("b_scale", layer.product_scale)
        b = self.node("DequantizeLinear", *b32, axis=0)
        self.last = self.node("Gemm", x, w, b, transB=1)
        if layer.activation:
            self.last = self.activation(layer.activation, self.last)

    def finish(self, observation_size: int, action_size: int) -> bytes:
        """The checked model, serialised."""
        import onnx
        from onnx import TensorProto, helper

        self.nodes.append(helper.make_node("Identity", [self.bounded()], [OUTPUT]))
        value_info = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "policy",
            [value_info(INPUT, TensorProto.FLOAT, ["batch", observation_size])],
            [value_info(OUTPUT, TensorProto.FLOAT, ["batch", action_size])],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="compressrl"
        )
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString()
        return content
