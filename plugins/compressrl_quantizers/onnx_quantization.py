"""What the two quantizers on top of ONNX Runtime's own tools share."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

from onnx import load_from_string
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization.shape_inference import quant_pre_process

from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.networks import onnx_graph

Preset = Literal["best", "paper"]
Quantize = Callable[[Path, Path], Any]


def quantized_graph(graph: bytes, quantize: Quantize) -> bytes:
    """Run `quantize(float_file, quantized_file)` on a graph, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        original, prepared, quantized = (Path(folder) / name for name in ("float", "prepared", "quantized"))
        original.write_bytes(graph)
        # Makes a Gemm of every product and its bias, so that biases become integers too: a float bias makes
        # ONNX Runtime turn the layer back into float at every call.
        quant_pre_process(str(original), str(prepared), skip_symbolic_shape=True)
        quantize(prepared, quantized)
        return quantized.read_bytes()


def reference_twin(graph: bytes) -> PolicyFunction:
    """Onnx's own evaluator, which executes the graph as written, operator by operator, in numpy.

    Of a static (QDQ) graph that is: quantize, dequantize, multiply in float; of a dynamic one, ranges and
    integer products by their definition.
    """
    evaluator = ReferenceEvaluator(load_from_string(graph))

    def act(states: Float32Array) -> Float32Array:
        return cast(Float32Array, evaluator.run(None, {onnx_graph.INPUT: states})[0])

    return act
