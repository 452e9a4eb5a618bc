"""Quantization-aware training: int8 weights and activations, learnt under fake quantization in torch.

`finetune` distils the trained policy into its quantized copy in a minute; `scratch` trains the algorithm
anew with a fake-quantized actor from the first step, as arXiv 2407.04803 did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from compressrl import defaults, options, provenance
from compressrl.interfaces import Float32Array
from compressrl.lab import Lab
from compressrl.networks.fake_quantization import FakeQuantLinear, to_integer
from compressrl.options import Option
from compressrl.policy import Form, Policy
from compressrl_distillation.distillation import Distillation, DistillationOptions, one_thread
from compressrl_quantizers import calibration, checks
from compressrl_quantizers.standardization import standardized
from compressrl_quantizers.widths import WidthOptions


@dataclass(frozen=True, kw_only=True)
class QuantizationAwareTraining(DistillationOptions, WidthOptions):
    """QAT. The output before the final tanh stays float."""

    mode: Annotated[
        Literal["finetune", "scratch"], Option("distil the trained policy, or train the algorithm anew")
    ] = "finetune"
    train_steps: Annotated[int, Option("environment steps of mode=scratch", low=1)] = defaults.TRAINING_STEPS

    takes: ClassVar[tuple[Form, ...]] = ("network",)
    gives: ClassVar[Form] = "integer"
    trains: ClassVar[bool] = True
    candidates: ClassVar[tuple[str, ...]] = ("qat",)

    def __post_init__(self) -> None:
        if self.mode == "scratch":
            distilling = {each.name for each in options.describe(DistillationOptions)}
            options.refuse_chosen(self, distilling - {"states_per_round"}, "mode=scratch does not distil")
        else:
            options.refuse_chosen(self, {"train_steps"}, "Only mode=scratch trains anew")

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Raises PipelineError on a quantized policy or one that is no row of linear layers.

        CompressrlError where the result does not run on integer kernels or disagrees with the torch module.
        """
        checks.refuse_not_float(policy)
        with one_thread():
            used = lab.environment_steps_used
            student, figures = self._finetuned(policy, lab) if self.mode == "finetune" else self._scratch(lab)
            steps = lab.environment_steps_used - used
            step = provenance.step("qat", self, *figures, f"{steps} environment steps")
            return checks.proven(
                policy.with_integer(to_integer(student), step), checks.executed(student), lab
            )

    def _finetuned(self, policy: Policy, lab: Lab) -> tuple[nn.Module, list[str]]:
        """The fake-quantized copy, distilled from the policy before the pipeline, and what that took."""
        teacher = lab.baseline or policy
        states = lab.collect(teacher, self.states_per_round)
        original = nn.Sequential(*standardized(policy, states))
        student = nn.Sequential(*standardized(policy, states))
        self.fake_quantized(student)
        calibration.set_ranges(student, original, states, policy.half_range)

        def as_policy() -> Policy:
            return policy.with_integer(to_integer(student), "qat under way")

        task = "quantization-aware training"
        gathered = self.states_per_round
        done = Distillation(student, as_policy, teacher, states, lab, self, task, gathered).run()
        return student, ["finetune", *done.figures()]

    def _scratch(self, lab: Lab) -> tuple[nn.Module, list[str]]:
        """A fake-quantized actor from fresh weights, and how it was trained."""
        trained = lab.train(self.train_steps, adapt_actor=self.fake_quantized)
        student = trained.network.eval()
        if not is_calibrated(student):  # an algorithm without gradients tracks no ranges
            calibrate(student, lab.collect(trained, self.states_per_round))
        return student, [*trained.provenance]


def is_calibrated(student: nn.Module) -> bool:
    """Whether every fake-quantized layer has an input range."""
    return all(layer.batches > 0 for layer in student.modules() if isinstance(layer, FakeQuantLinear))


def calibrate(student: nn.Module, states: Float32Array) -> None:
    """Set the input range of every fake-quantized layer by one batch of states."""
    student.train()
    student(torch.from_numpy(states))
    student.eval()
