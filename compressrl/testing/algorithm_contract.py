"""What every algorithm must keep to."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from compressrl import environments, options, rollout
from compressrl.errors import EnvironmentFailedError, UsageError
from compressrl.interfaces import Algorithm, Float32Array
from compressrl.lab import Lab
from compressrl.policy import Policy
from compressrl.testing import checks
from compressrl.testing.environments import TINY
from compressrl.testing.policies import states, tiny_policy
from compressrl.training import BEST_POLICY, CHECKPOINT, LATEST_POLICY, LEARNING_CURVE, TrainingSession


class CountingEnv(gymnasium.Wrapper[Float32Array, Float32Array, Float32Array, Float32Array]):
    """Tells a lab of every step, and checks that actions keep within the action space."""

    def __init__(self, env: environments.Env, lab: CountingLab) -> None:
        super().__init__(env)
        self.lab = lab

    def step(self, action: Float32Array) -> tuple[Float32Array, Any, bool, bool, dict[str, Any]]:
        self.lab.steps_taken += 1
        if self.lab.steps_taken == self.lab.interrupt_at:
            raise KeyboardInterrupt
        if self.lab.steps_taken == self.lab.fail_at:
            raise EnvironmentFailedError("the environment has failed.")
        inside = (action >= self.action_space.low - 1e-5) & (action <= self.action_space.high + 1e-5)  # type: ignore[attr-defined]
        self.lab.all_inside &= bool(np.all(inside))
        return super().step(action)


@dataclass
class CountingLab(Lab):
    """Counts the steps taken in its environments.

    interrupt_at, fail_at: the step at which Ctrl-C is pressed, or the environment fails
    """

    steps_taken: int = 0
    interrupt_at: int = 0
    fail_at: int = 0
    all_inside: bool = True

    def make_env(self, seed: int | None = None) -> environments.Env:
        return CountingEnv(super().make_env(seed), self)


class AlgorithmContract:
    """Tests of an algorithm; see `compressrl.testing` for how to inherit them.

    plugin:  the class under test
    options: option values by name: small networks, and learning that starts well before `steps`
    steps:   environment steps of a run in which weights are learnt
    """

    plugin: ClassVar[type[Any]]
    options: ClassVar[Mapping[str, Any]] = {}
    steps: ClassVar[int] = 400

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return cast(Algorithm, options.build(self.plugin, self.plugin.__name__, self.options))

    @pytest.fixture
    def trained(self, algorithm: Algorithm) -> Policy:
        return algorithm.train(self.lab())

    def lab(self, seed: int = 0, *, interrupt_at: int = 0, fail_at: int = 0, **session: Any) -> CountingLab:
        """A workplace for `steps` steps; further arguments are those of TrainingSession."""
        training = TrainingSession(**{"steps": self.steps, **session})
        return CountingLab(TINY, seed, training=training, interrupt_at=interrupt_at, fail_at=fail_at)

    def test_options_are_described_and_the_defaults_are_valid(self) -> None:
        checks.assert_described(self.plugin, self.options)

    def test_the_policy_fits_the_environment(self, trained: Policy) -> None:
        checks.assert_same_spaces(trained, tiny_policy())
        assert trained.env_id == TINY
        assert trained.algorithm
        assert trained.provenance
        assert trained.form == "network"

    def test_actions_are_finite_and_within_bounds(self, trained: Policy) -> None:
        checks.assert_acts_within_bounds(trained, states())
        checks.assert_acts_within_bounds(trained, states(spread=1000))

    def test_the_environment_gets_the_steps_asked_for_and_valid_actions(self, algorithm: Algorithm) -> None:
        lab = self.lab()
        algorithm.train(lab)
        assert self.steps <= lab.steps_taken <= 1.1 * self.steps
        assert lab.all_inside

    def test_the_same_seed_gives_the_same_weights_whatever_ran_before(self, algorithm: Algorithm) -> None:
        results = []
        for unrelated in (1, 2):
            random.seed(unrelated)
            np.random.seed(unrelated)
            torch.manual_seed(unrelated)
            results.append(weights(algorithm.train(self.lab(seed=7))))
        assert torch.equal(*results)

    def test_another_seed_gives_other_weights(self, algorithm: Algorithm) -> None:
        assert not torch.equal(*(weights(algorithm.train(self.lab(seed))) for seed in (7, 8)))

    def test_weights_go_on_changing(self, algorithm: Algorithm) -> None:
        runs = (algorithm.train(self.lab(steps=n)) for n in (self.steps, 2 * self.steps))
        assert not torch.equal(*map(weights, runs))

    def test_a_run_leaves_its_curve_and_its_policies(self, algorithm: Algorithm, tmp_path: Path) -> None:
        final = algorithm.train(
            self.lab(folder=tmp_path, evaluate=mean_return, evaluation_every=self.steps // 2)
        )
        rows = (tmp_path / LEARNING_CURVE).read_text().splitlines()
        assert len(rows) >= 2
        assert int(rows[-1].split(",")[0]) >= self.steps
        assert torch.equal(weights(Policy.load(tmp_path / LATEST_POLICY)), weights(final))
        best = mean_return(Policy.load(tmp_path / BEST_POLICY))
        assert best == pytest.approx(max(float(row.split(",")[2]) for row in rows[1:]), abs=0.01)

    def test_a_finished_run_is_not_run_again(self, algorithm: Algorithm, tmp_path: Path) -> None:
        first = algorithm.train(self.lab(folder=tmp_path))
        again = self.lab(folder=tmp_path)
        assert torch.equal(weights(algorithm.train(again)), weights(first))
        assert again.steps_taken == 0

    def test_a_run_can_be_prolonged(self, algorithm: Algorithm, tmp_path: Path) -> None:
        first = algorithm.train(self.lab(folder=tmp_path))
        longer = self.lab(folder=tmp_path, steps=2 * self.steps)
        assert not torch.equal(weights(algorithm.train(longer)), weights(first))
        assert 0 < longer.steps_taken <= 1.1 * self.steps

    def test_ctrl_c_keeps_what_was_learnt(self, algorithm: Algorithm, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            algorithm.train(self.lab(folder=tmp_path, interrupt_at=3 * self.steps // 4))
        assert (tmp_path / CHECKPOINT).is_file()
        checks.assert_acts_within_bounds(Policy.load(tmp_path / LATEST_POLICY), states())
        rest = self.lab(folder=tmp_path)
        algorithm.train(rest)
        assert 0 < rest.steps_taken < self.steps

    def test_an_environment_that_fails_leaves_a_run_to_go_on_with(
        self, algorithm: Algorithm, tmp_path: Path
    ) -> None:
        with pytest.raises(EnvironmentFailedError, match=r"has failed\. The run is saved at step"):
            algorithm.train(self.lab(folder=tmp_path, fail_at=3 * self.steps // 4))
        rest = self.lab(folder=tmp_path)
        algorithm.train(rest)
        assert 0 < rest.steps_taken < self.steps

    def test_an_evaluation_that_ctrl_c_cuts_is_made_when_the_run_goes_on(
        self, algorithm: Algorithm, tmp_path: Path
    ) -> None:
        def interrupted(_: Policy) -> float:
            raise KeyboardInterrupt

        at_the_end: dict[str, Any] = {"folder": tmp_path, "evaluation_every": 10 * self.steps}
        with pytest.raises(KeyboardInterrupt):
            algorithm.train(self.lab(evaluate=interrupted, **at_the_end))
        rest = self.lab(evaluate=mean_return, **at_the_end)
        algorithm.train(rest)
        assert rest.steps_taken == 0
        _, row = (tmp_path / LEARNING_CURVE).read_text().splitlines()
        assert int(row.split(",")[0]) >= self.steps
        assert (tmp_path / BEST_POLICY).is_file()

    def test_the_checkpoint_of_another_run_is_refused(self, algorithm: Algorithm, tmp_path: Path) -> None:
        algorithm.train(self.lab(folder=tmp_path, fingerprint={"seed": 0}))
        with pytest.raises(UsageError, match="seed"):
            algorithm.train(self.lab(folder=tmp_path, fingerprint={"seed": 1}))

    def test_a_warm_start_begins_as_the_policy_it_starts_from(self, algorithm: Algorithm) -> None:
        start = tiny_policy()
        warm = algorithm.train(self.lab(start=start, steps=0))
        difference = checks.actions(warm, states()) - checks.actions(start, states())
        assert np.abs(difference).max() < 1e-5
        assert warm.provenance[: len(start.provenance)] == start.provenance

    def test_a_warm_start_learns_without_touching_the_policy_it_starts_from(
        self, algorithm: Algorithm, trained: Policy
    ) -> None:
        before = trained.to_bytes()
        warm = algorithm.train(self.lab(seed=1, start=trained, steps=2 * self.steps))
        assert not torch.equal(weights(warm), weights(trained))
        assert trained.to_bytes() == before

    def test_an_adapted_actor_is_what_is_trained_and_returned(self, algorithm: Algorithm) -> None:
        given: list[nn.Module] = []

        def adapt(actor: nn.Module) -> nn.Module:
            given.append(actor)
            return nn.Sequential(*(Marked(m) if isinstance(m, nn.Linear) else m for m in actor.children()))

        network = algorithm.train(self.lab(adapt_actor=adapt)).network
        assert len(given) == 1
        assert any(isinstance(module, Marked) for module in network.modules())
        assert not any(type(module) is nn.Linear for module in network.modules())

    def test_nothing_is_printed_on_stdout(
        self, algorithm: Algorithm, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        algorithm.train(self.lab(folder=tmp_path))
        assert capfd.readouterr().out == "", "stdout belongs to the JSON of --json"


class Marked(nn.Linear):
    """A layer of a type that only `adapt_actor` can have brought in."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features)
        self.load_state_dict(linear.state_dict())


def weights(policy: Policy) -> torch.Tensor:
    """All parameters of the policy's network in one vector."""
    return nn.utils.parameters_to_vector(policy.network.parameters()).detach()


def mean_return(policy: Policy) -> float:
    """Over three episodes of the tiny environment."""
    return rollout.run_episodes(policy, lambda: environments.make(TINY), range(3)).mean_return
