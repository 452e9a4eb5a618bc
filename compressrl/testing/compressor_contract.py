"""What every compressor must keep to."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from compressrl import options
from compressrl.errors import PipelineError
from compressrl.interfaces import Algorithm, Compressor, Float32Array
from compressrl.lab import Lab
from compressrl.networks import onnx_graph
from compressrl.policy import Policy
from compressrl.testing import checks
from compressrl.testing.policies import FORMS, TinyForm, states, tiny_policy


class CompressorContract:
    """Tests of a compressor; see `compressrl.testing` for how to inherit them.

    plugin:    the class under test
    options:   option values by name, where the defaults take too long
    algorithm: what `lab.train` trains by, for a compressor that trains further (say, RandomSearch())
    tolerance: largest difference between an action in ONNX Runtime and the policy's own, in action units
    policy:    fixture, what is compressed
    """

    plugin: ClassVar[type[Any]]
    options: ClassVar[Mapping[str, Any]] = {}
    algorithm: ClassVar[Algorithm | None] = None
    tolerance: ClassVar[float] = 1e-5

    @pytest.fixture
    def compressor(self) -> Compressor:
        return cast(Compressor, options.build(self.plugin, self.plugin.__name__, self.options))

    @pytest.fixture
    def policy(self) -> Policy:
        return tiny_policy()

    @pytest.fixture
    def observations(self) -> Float32Array:
        return states()

    def lab(self, policy: Policy, seed: int = 0) -> Lab:
        """The workplace in which the policy is compressed."""
        return Lab(policy.env_id, seed, baseline=policy, algorithm=self.algorithm)

    @pytest.fixture
    def compressed(self, compressor: Compressor, policy: Policy) -> Policy:
        return compressor.compress(policy, self.lab(policy))

    def test_options_are_described_and_the_defaults_are_valid(self) -> None:
        checks.assert_described(self.plugin, self.options)

    def test_the_argument_is_not_changed(self, compressor: Compressor, policy: Policy) -> None:
        before = policy.to_bytes()
        compressor.compress(policy, self.lab(policy))
        assert policy.to_bytes() == before

    def test_the_result_is_a_policy_for_the_same_spaces(self, compressed: Policy, policy: Policy) -> None:
        assert isinstance(compressed, Policy)
        checks.assert_same_spaces(compressed, policy)
        assert (compressed.env_id, compressed.algorithm) == (policy.env_id, policy.algorithm)

    def test_the_provenance_says_what_was_done(self, compressed: Policy, policy: Policy) -> None:
        known = len(policy.provenance)
        assert compressed.provenance[:known] == policy.provenance
        added = compressed.provenance[known:]
        assert added
        assert all(step.strip() and len(step.splitlines()) == 1 for step in added)

    def test_actions_are_finite_and_within_bounds(
        self, compressed: Policy, observations: Float32Array
    ) -> None:
        checks.assert_acts_within_bounds(compressed, observations)

    def test_actions_are_within_bounds_far_from_everything_seen(
        self, compressed: Policy, observations: Float32Array
    ) -> None:
        checks.assert_acts_within_bounds(compressed, 1000 * observations)

    def test_actions_still_depend_on_the_observation(
        self, compressed: Policy, observations: Float32Array
    ) -> None:
        assert (checks.actions(compressed, observations).std(axis=0) > 0).all()

    def test_the_same_seed_gives_the_same_result_whatever_ran_before(
        self, compressor: Compressor, policy: Policy, observations: Float32Array
    ) -> None:
        results = []
        for unrelated in (1, 2):
            _seed_global_generators(unrelated)
            result = compressor.compress(policy, self.lab(policy))
            results.append(checks.actions(result, observations))
        assert np.array_equal(results[0], results[1])

    def test_the_result_survives_its_file(
        self, compressed: Policy, observations: Float32Array, tmp_path: Path
    ) -> None:
        compressed.save(tmp_path / "a.policy")
        loaded = Policy.load(tmp_path / "a.policy")
        assert loaded.provenance == compressed.provenance
        difference = checks.actions(loaded, observations) - checks.actions(compressed, observations)
        assert np.abs(difference).max() <= self.tolerance

    def test_the_onnx_export_agrees_with_the_policy(
        self, compressed: Policy, observations: Float32Array
    ) -> None:
        session = onnx_graph.session(compressed.to_onnx())
        name = session.get_inputs()[0].name
        exported = np.stack([session.run(None, {name: row[None]})[0][0] for row in observations])
        assert exported.dtype == np.float32
        difference = exported - checks.actions(compressed, observations)
        assert np.abs(difference).max() <= self.tolerance

    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_is_taken_or_refused_in_words(self, compressor: Compressor, form: TinyForm) -> None:
        policy = tiny_policy(form)
        try:
            compressed = compressor.compress(policy, self.lab(policy))
        except PipelineError:
            # A float network is what a pipeline begins with; a foreign module may be beyond a compressor.
            assert form == "foreign" or (form != "network" and form not in getattr(compressor, "takes", ()))
            return
        checks.assert_same_spaces(compressed, policy)
        checks.assert_acts_within_bounds(compressed, states())
        assert compressed.form == getattr(compressor, "gives", compressed.form)

    def test_nothing_is_printed_on_stdout_or_left_on_disk(
        self,
        compressor: Compressor,
        policy: Policy,
        capfd: pytest.CaptureFixture[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        compressor.compress(policy, self.lab(policy))
        assert capfd.readouterr().out == "", "stdout belongs to the JSON of --json"
        assert list(tmp_path.iterdir()) == []


def _seed_global_generators(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
