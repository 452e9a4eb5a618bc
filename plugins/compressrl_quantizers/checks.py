"""What every quantizer asks of its input and proves of its result."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from compressrl.errors import CompressrlError
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.lab import Lab
from compressrl.networks import onnx_graph
from compressrl.policy import Policy

AGREEMENT_STATES = 200
# Largest mean difference of an action, as a share of half its range, over the agreement states. Graph and
# twin quantize alike and sums of integers are exact, so they differ by float rounding (1e-7), and by one
# level of one hidden unit where that rounding crosses a boundary: seen in up to 1 of 200 states of trained
# HalfCheetah policies, by up to 0.02; means 3e-8 to 2e-5. A saturating kernel or a wrong scale exceeds 1e-2.
TOLERANCE = 1e-3


def refuse_not_float(policy: Policy) -> None:
    """Raises PipelineError where the policy is quantized, UsageError where it holds NaN or infinity."""
    _ = policy.network
    policy.refuse_not_finite()


def proven(policy: Policy, twin: PolicyFunction, lab: Lab) -> Policy:
    """The quantized policy, if its graph runs by integer kernels and agrees with its fake-quantized twin.

    twin: (1, observation_size) -> (1, action_size), another implementation of the same quantization
    Raises CompressrlError.
    """
    onnx_graph.assert_integer_kernels(policy.to_onnx())
    assert_agreement(policy, twin, lab.collect(policy, AGREEMENT_STATES))
    return policy


def assert_agreement(policy: Policy, twin: PolicyFunction, states: Float32Array) -> None:
    """Raise CompressrlError unless ONNX Runtime computes what the twin computes on these states."""
    kernels = onnx_graph.reference_function(policy.to_onnx())(states)
    expected = np.concatenate([twin(state[None]) for state in states])
    difference = np.abs(kernels - expected) / policy.half_range
    mean = float(difference.mean())
    if not mean <= TOLERANCE:  # written so that NaN fails
        raise CompressrlError(
            "The integer kernels of ONNX Runtime disagree with the fake-quantized policy on this machine, by "
            f"{mean:.2g} of half the action range on average (tolerance {TOLERANCE:g}). Please report it."
        )


def executed(student: nn.Module) -> PolicyFunction:
    """The fake-quantized module in torch as a function of numpy arrays."""

    @torch.no_grad()
    def act(states: Float32Array) -> Float32Array:
        actions: Float32Array = student(torch.from_numpy(states)).numpy()
        return actions

    return act
