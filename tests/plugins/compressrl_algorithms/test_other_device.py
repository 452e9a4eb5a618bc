"""`--device` with something else than the CPU: nothing here has a GPU, but torch can be given a device."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from compressrl import runs
from compressrl.policy import Policy

PROGRAM = Path(__file__).with_name("other_device.py")
OFF_POLICY = "learning_starts=200,hidden=32x32"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("device") / "other_device.so"
    run(path)
    return path


def run(*words, **variables):
    command = [sys.executable, str(PROGRAM), *map(str, words)]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    "algorithm",  # damped, as conjugate gradients make much of what is rounded otherwise
    [
        f"sac:{OFF_POLICY}",
        f"td3:{OFF_POLICY}",
        f"ddpg:{OFF_POLICY}",
        "ppo:n_steps=100",
        "trpo:n_steps=100,cg_damping=1",
    ],
)
def test_a_run_on_another_device_learns_what_one_in_plain_torch_learns(library, tmp_path, algorithm):
    policies = []
    # The kernel is there, and must leave the other device's memory alone. Both runs are resumed once.
    for device, variables in (("other", {}), ("cpu", {"CC": "false"})):
        run(library, device, algorithm, tmp_path / device, 250, 300, **variables)
        policies.append(Policy.load(tmp_path / device / "latest.policy"))
    observations = np.random.default_rng(0).normal(size=(100, 11)).astype(np.float32)
    there, here = (np.stack([policy(each) for each in observations]) for policy in policies)
    np.testing.assert_allclose(there, here, atol=1e-4)


@pytest.mark.hardware
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no GPU")
@pytest.mark.parametrize(
    "algorithm", [f"{name}:{OFF_POLICY}" for name in ("sac", "td3", "ddpg")] + ["ppo", "trpo"]
)
def test_a_run_on_a_gpu_is_resumed_there(tmp_path, algorithm):
    for steps in (2200, 2400):
        runs.train(algorithm, "Hopper-v5", steps=steps, out=tmp_path, device="cuda")
    policy = Policy.load(tmp_path / "latest.policy")
    assert "2400 steps" in policy.provenance[-1]
    assert np.isfinite(policy(np.zeros(11, np.float32))).all()
