"""Post-training static quantization: int8, one fixed range for every layer's input, no training.

`best` keeps a policy's return where the plain method loses half of it, and `paper` is that plain method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import nn

from compressrl import options, provenance
from compressrl.interfaces import Float32Array
from compressrl.lab import Lab
from compressrl.networks.fake_quantization import to_integer
from compressrl.options import Option
from compressrl.policy import Form, Policy
from compressrl_quantizers import calibration, checks
from compressrl_quantizers.calibration import Method
from compressrl_quantizers.onnx_quantization import Preset, reference_twin
from compressrl_quantizers.onnx_static import quantize_static
from compressrl_quantizers.standardization import standardized
from compressrl_quantizers.widths import WidthOptions

PAPER_OPTIONS = {"preset", "calibration_steps"}


@dataclass(frozen=True, kw_only=True)
class PostTrainingStaticQuantization(WidthOptions):
    """PTSQ: every layer's input has a fixed range. The output before the final tanh stays float."""

    preset: Annotated[
        Preset,
        Option("best: standardised observations, scales by row; paper: ONNX Runtime's tool at its defaults"),
    ] = "best"
    calibration_steps: Annotated[int, Option("states visited to find the ranges", low=1)] = 5000
    method: Annotated[Method, Option("how a range follows from the values seen")] = "action"
    percentile: Annotated[float, Option("share of values kept, method=percentile", low=50, high=100)] = 99.8
    bias_correction: Annotated[bool, Option("biases that keep each layer's mean output")] = False

    takes: ClassVar[tuple[Form, ...]] = ("network",)
    candidates: ClassVar[tuple[str, ...]] = ("ptsq",)

    def __post_init__(self) -> None:
        if self.preset == "paper":
            fixed = options.chosen(self).keys() - PAPER_OPTIONS
            options.refuse_chosen(self, fixed, "preset=paper has settings of its own")
        elif self.method != "percentile":
            options.refuse_chosen(self, {"percentile"}, f"method={self.method} has no percentile")

    @property
    def gives(self) -> Form:
        return "integer" if self.preset == "best" else "graph"

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Raises PipelineError on a quantized policy, and with preset=best on one that is no row of layers.

        CompressrlError where the result does not run on integer kernels or disagrees with its float twin.
        """
        checks.refuse_not_float(policy)
        states = lab.collect(policy, self.calibration_steps)
        step = provenance.step("ptsq", self, f"ranges from {len(states)} visited states")
        if self.preset == "paper":
            graph = quantize_static(policy.to_onnx(), states)
            return checks.proven(policy.with_graph(graph, step), reference_twin(graph), lab)
        student = self._calibrated(policy, states)
        return checks.proven(policy.with_integer(to_integer(student), step), checks.executed(student), lab)

    def _calibrated(self, policy: Policy, states: Float32Array) -> nn.Sequential:
        original = nn.Sequential(*standardized(policy, states))
        student = nn.Sequential(*standardized(policy, states))
        self.fake_quantized(student)
        calibration.set_ranges(student, original, states, policy.half_range, self.method, self.percentile)
        if self.bias_correction:
            calibration.correct_biases(student, original, states)
        return student
