"""The proof that ends every quantization can fail."""

from __future__ import annotations

import numpy as np
import pytest

from compressrl.errors import CompressrlError
from compressrl.lab import Lab
from compressrl.testing import tiny_policy
from compressrl.testing.policies import states
from compressrl_quantizers import checks
from compressrl_quantizers.onnx_quantization import reference_twin


def test_graph_and_reference_evaluator_agree():
    policy = tiny_policy("integer")
    checks.assert_agreement(policy, reference_twin(policy.to_onnx()), states(50))


@pytest.mark.parametrize("error", [0.01, -0.01, float("nan")])
def test_a_twin_that_acts_otherwise_is_told(error: float):
    policy = tiny_policy("integer")

    def twin(observations: np.ndarray) -> np.ndarray:
        return policy(observations) + np.float32(error)

    with pytest.raises(CompressrlError, match=r"disagree.*tolerance 0.001"):
        checks.assert_agreement(policy, twin, states(50))


def test_float_kernels_are_no_proof():
    policy = tiny_policy()
    with pytest.raises(CompressrlError, match="integer kernels"):
        checks.proven(policy, policy, Lab(policy.env_id))
