"""Post-training static quantization by ONNX Runtime: int8, ranges calibrated on visited states."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    TensorsData,
    create_calibrator,
)

from compressrl import onnx_graph, provenance
from compressrl.interfaces import Float32Array
from compressrl.lab import Lab
from compressrl.options import Option
from compressrl.policy import Form, Policy
from compressrl_quantizers import checks
from compressrl_quantizers.onnx_quantization import quantized_graph, reference_twin

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
PRODUCTS = ["Gemm", "MatMul"]
# What is computed in integers: products, and the sums of skip connections between them.
QUANTIZED = [*PRODUCTS, "Add"]


class VisitedStates(CalibrationDataReader):  # type: ignore[misc]
    """Hands all states to ONNX Runtime's calibration, as one batch."""

    def __init__(self, states: Float32Array) -> None:
        self.batches = iter([{onnx_graph.INPUT: states}])

    def get_next(self) -> dict[str, Float32Array] | None:
        return next(self.batches, None)


@dataclass(frozen=True)
class PostTrainingStaticQuantization:
    """PTSQ: every layer's input has a fixed range. The output before the final tanh stays float."""

    calibration_steps: Annotated[int, Option("states visited to find the ranges", low=1)] = 5000
    method: Annotated[
        Literal["minmax", "percentile", "entropy"], Option("how a range follows from the values seen")
    ] = "minmax"
    percentile: Annotated[float, Option("share of values kept, method=percentile", low=50, high=100)] = 99.99
    per_channel: Annotated[bool, Option("a weight scale for each output, not one for a whole matrix")] = True
    reduce_range: Annotated[bool, Option("7-bit weights, for x86 CPUs without VNNI")] = False

    takes: ClassVar[tuple[Form, ...]] = ("network",)
    gives: ClassVar[Form] = "graph"

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Raises PipelineError on a quantized policy, CompressrlError where the result fails its proof."""
        checks.float_network(policy)
        states = lab.collect(policy, self.calibration_steps)
        graph = quantized_graph(policy.to_onnx(), functools.partial(self._quantize, states))
        step = provenance.step("ptsq", self, f"ranges from {len(states)} visited states")
        return checks.proven(policy.with_graph(graph, step), reference_twin(graph), lab)

    def _quantize(self, states: Float32Array, source: Path, target: Path) -> None:
        # quantize_static would do these steps, but passes neither percentile nor bins on; and with its 128
        # bins of 128 levels, entropy is minmax.
        model = onnx.load(source)
        quantizer = QDQQuantizer(
            model,
            self.per_channel,
            self.reduce_range,
            QuantType.QInt8,
            QuantType.QUInt8,
            self._ranges(states, source),
            [],
            _names_after_the_last_product(model.graph),
            QUANTIZED,
            # Outputs are quantized as the next layer's input; the last one, which has none, stays float.
            {"OpTypesToExcludeOutputQuantization": PRODUCTS},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target))

    def _ranges(self, states: Float32Array, source: Path) -> TensorsData:
        """The range of every input and output of a quantized operator on these states."""
        options: dict[str, float] = {}
        if self.method == "percentile":
            options["percentile"] = self.percentile
        if self.method == "entropy":
            options |= {"num_bins": 512, "num_quantized_bins": 256}
        calibrator = create_calibrator(
            source, QUANTIZED, f"{source}.augmented", METHODS[self.method], extra_options=options
        )
        calibrator.collect_data(VisitedStates(states))
        return calibrator.compute_data()


def _names_after_the_last_product(graph: Any) -> list[str]:
    """Names of the nodes that stay float; all nodes get a name."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"node_{index}"
    last = max(index for index, node in enumerate(graph.node) if node.op_type in PRODUCTS)
    return [node.name for node in graph.node[last + 1 :]]
