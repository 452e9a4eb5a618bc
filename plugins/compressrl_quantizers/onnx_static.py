"""Static quantization by ONNX Runtime's own tool at its defaults: what arXiv 2407.04803 calls PTSQ."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    TensorsData,
    create_calibrator,
)

from compressrl.interfaces import Float32Array
from compressrl.networks import onnx_graph
from compressrl_quantizers.onnx_quantization import quantized_graph

PRODUCTS = ["Gemm", "MatMul"]
# What is computed in integers: products, and the sums of skip connections between them.
QUANTIZED = [*PRODUCTS, "Add"]


class VisitedStates(CalibrationDataReader):  # type: ignore[misc]
    """Hands all states to ONNX Runtime's calibration, as one batch."""

    def __init__(self, states: Float32Array) -> None:
        self.batches = iter([{onnx_graph.INPUT: states}])

    def get_next(self) -> dict[str, Float32Array] | None:
        return next(self.batches, None)


def quantize_static(graph: bytes, states: Float32Array) -> bytes:
    """The graph in QDQ form: one scale a weight matrix, ranges from the least and greatest value seen."""
    return quantized_graph(graph, functools.partial(_quantize, states))


def _quantize(states: Float32Array, source: Path, target: Path) -> None:
    # onnxruntime's quantize_static would do these steps, but keeps no output float.
    model = onnx.load(source)
    per_channel = reduce_range = False
    quantizer = QDQQuantizer(
        model,
        per_channel,
        reduce_range,
        QuantType.QInt8,
        QuantType.QUInt8,
        _ranges(states, source),
        [],
        _names_after_the_last_product(model.graph),
        QUANTIZED,
        # Outputs are quantized as the next layer's input; the last one, which has none, stays float.
        {"OpTypesToExcludeOutputQuantization": PRODUCTS},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(target))


def _ranges(states: Float32Array, source: Path) -> TensorsData:
    """The range of every input and output of a quantized operator on these states."""
    calibrator = create_calibrator(source, QUANTIZED, f"{source}.augmented", CalibrationMethod.MinMax)
    calibrator.collect_data(VisitedStates(states))
    return calibrator.compute_data()


def _names_after_the_last_product(graph: Any) -> list[str]:
    """Names of the nodes that stay float; all nodes get a name."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"node_{index}"
    last = max(index for index, node in enumerate(graph.node) if node.op_type in PRODUCTS)
    return [node.name for node in graph.node[last + 1 :]]
