"""What every runtime must keep to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from compressrl import options
from compressrl.errors import UsageError
from compressrl.interfaces import DeployableRuntime, Float32Array, PolicyFunction, PreparingRuntime, Runtime
from compressrl.policy import Policy
from compressrl.testing import checks
from compressrl.testing.policies import FORMS, TinyForm, states, tiny_policy


class RuntimeContract:
    """Tests of a runtime; see `compressrl.testing` for how to inherit them.

    plugin:    the class under test
    options:   option values by name
    forms:     forms that it executes; every other one must be refused with a UsageError
    tolerance: largest difference to `policy(observation)`, in action units
    policy:    fixture, what is executed
    """

    plugin: ClassVar[type[Any]]
    options: ClassVar[Mapping[str, Any]] = {}
    forms: ClassVar[tuple[TinyForm, ...]] = FORMS
    tolerance: ClassVar[float] = 1e-5

    @pytest.fixture
    def runtime(self) -> Runtime:
        return cast(Runtime, options.build(self.plugin, self.plugin.__name__, self.options))

    @pytest.fixture
    def policy(self) -> Policy:
        return tiny_policy()

    @pytest.fixture
    def observations(self) -> Float32Array:
        return states()

    @pytest.fixture
    def function(self, runtime: Runtime, policy: Policy) -> PolicyFunction:
        return runtime.load(shipped(runtime, policy))

    def test_options_are_described_and_the_defaults_are_valid(self) -> None:
        checks.assert_described(self.plugin, self.options)

    def test_one_observation_gives_one_float32_action(
        self, function: PolicyFunction, policy: Policy, observations: Float32Array
    ) -> None:
        action = function(observations[0])
        assert isinstance(action, np.ndarray)
        assert action.shape == (policy.action_size,)
        assert action.dtype == np.float32

    @pytest.mark.parametrize("form", FORMS)
    def test_each_form_is_executed_as_the_policy_itself_does_or_refused(
        self, runtime: Runtime, form: TinyForm, observations: Float32Array
    ) -> None:
        policy = tiny_policy(form)
        if form not in self.forms:
            with pytest.raises(UsageError):
                runtime.load(shipped(runtime, policy))
            return
        function = runtime.load(shipped(runtime, policy))
        difference = checks.actions(function, observations) - checks.actions(policy, observations)
        assert np.abs(difference).max() <= self.tolerance

    def test_far_observations_give_finite_actions(
        self, function: PolicyFunction, observations: Float32Array
    ) -> None:
        assert np.isfinite(checks.actions(function, 1000 * observations)).all()

    def test_an_action_is_the_callers_to_keep(
        self, function: PolicyFunction, observations: Float32Array
    ) -> None:
        kept = [function(observation) for observation in observations]
        copies = [action.copy() for action in kept]
        kept[0] += 1000  # writable, and no part of any other
        assert all(np.array_equal(a, b) for a, b in zip(kept[1:], copies[1:], strict=True))
        assert np.array_equal(function(observations[0]), copies[0])

    def test_the_observation_is_not_changed_or_remembered(
        self, function: PolicyFunction, observations: Float32Array
    ) -> None:
        observation = observations[0].copy()
        action = function(observation)
        assert np.array_equal(observation, observations[0])
        observation[:] = observations[1]  # environments may reuse their array
        assert np.array_equal(function(observation), function(observations[1]))
        assert not np.array_equal(function(observation), action)

    def test_an_observation_need_not_be_contiguous(
        self, function: PolicyFunction, observations: Float32Array
    ) -> None:
        strided = np.repeat(observations[0], 2)[::2]
        assert not strided.flags.c_contiguous
        assert np.array_equal(function(strided), function(observations[0]))

    @pytest.mark.parametrize("size", [1, 2, 4])
    def test_an_observation_of_another_size_is_refused(self, function: PolicyFunction, size: int) -> None:
        with pytest.raises((UsageError, ValueError)):
            function(np.zeros(size, np.float32))

    def test_a_thousand_calls_change_nothing(
        self, function: PolicyFunction, observations: Float32Array
    ) -> None:
        first = checks.actions(function, observations)
        for number in range(1000):
            function(observations[number % len(observations)])
        assert np.array_equal(checks.actions(function, observations[::-1])[::-1], first)

    def test_two_loaded_policies_do_not_disturb_each_other(
        self, runtime: Runtime, observations: Float32Array
    ) -> None:
        policies = tiny_policy(seed=1), tiny_policy(seed=2, hidden=(8,))
        functions = [runtime.load(shipped(runtime, policy)) for policy in policies]
        for observation in observations[:10]:
            for policy, function in zip(policies, functions, strict=True):
                assert np.abs(function(observation) - policy(observation)).max() <= self.tolerance

    def test_a_wide_network_is_executed_too(self, runtime: Runtime, observations: Float32Array) -> None:
        policy = tiny_policy(hidden=(256, 100, 256), activation="silu")
        function = runtime.load(shipped(runtime, policy))
        difference = checks.actions(function, observations) - checks.actions(policy, observations)
        assert np.abs(difference).max() <= 10 * self.tolerance

    def test_loading_does_not_change_the_policy(self, runtime: Runtime, policy: Policy) -> None:
        before = policy.to_bytes()
        runtime.load(shipped(runtime, policy))
        assert policy.to_bytes() == before

    def test_what_is_prepared_stays_the_same_policy(self, runtime: Runtime, policy: Policy) -> None:
        prepared = shipped(runtime, policy)
        checks.assert_same_spaces(prepared, policy)
        assert prepared.provenance[: len(policy.provenance)] == policy.provenance
        assert shipped(runtime, prepared).to_bytes() == prepared.to_bytes()

    def test_what_is_deployed_acts_alike_without_this_package(
        self, runtime: Runtime, observations: Float32Array, tmp_path: Path
    ) -> None:
        if not isinstance(runtime, DeployableRuntime):
            pytest.skip(f"{self.plugin.__name__} is no DeployableRuntime")
        for form in self.forms:
            policy, folder = tiny_policy(form), tmp_path / form
            folder.mkdir()
            try:
                runtime.deploy(shipped(runtime, policy), folder)
            except UsageError:  # a form that it executes, but does not deploy
                continue
            deployed = _deployed_actions(folder, policy, observations)
            assert np.abs(deployed - checks.actions(policy, observations)).max() <= self.tolerance

    def test_nothing_is_printed_on_stdout(
        self, runtime: Runtime, policy: Policy, observations: Float32Array, capfd: pytest.CaptureFixture[str]
    ) -> None:
        checks.actions(runtime.load(shipped(runtime, policy)), observations)
        assert capfd.readouterr().out == "", "stdout belongs to the JSON of --json"


def _deployed_actions(folder: Path, policy: Policy, observations: Float32Array) -> Float32Array:
    """What the deployed module does in a fresh process, which must not import this package."""
    job = {
        "path": [str(folder), *sys.path],
        "arguments": [str(folder), policy.observation_size, policy.action_size],
        "rows": observations.tolist(),
    }
    command = [sys.executable, "-I", "-c", _DEPLOYED_PROCESS]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout), np.float32)


_DEPLOYED_PROCESS = """
import array, json, sys
job = json.load(sys.stdin)
sys.path[:] = job["path"]
import deployed
act = deployed.load(*job["arguments"])
actions = [[float(number) for number in act(memoryview(array.array("f", row)))] for row in job["rows"]]
found = sorted(name for name in sys.modules if name.startswith("compressrl"))
json.dump(actions, sys.stdout) if not found else sys.exit(f"deployed.py imports {found}")
"""


def shipped(runtime: Runtime, policy: Policy) -> Policy:
    """The policy in the form that the runtime ships."""
    return runtime.prepare(policy) if isinstance(runtime, PreparingRuntime) else policy
