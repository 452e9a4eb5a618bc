"""Plugins that each break a contract in one way; `broken` names the tests that must notice.

`test_contracts_notice.py` runs those tests in a process of their own.
"""

# ruff: noqa: N801 (plugin is the contract's name for a class)

import contextlib
import math
import os
import threading
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from torch import nn

from compressrl import Lab, Option, Policy
from compressrl.records import Latency
from compressrl.testing import (
    AlgorithmContract,
    CompressorContract,
    ProfilerContract,
    RandomSearch,
    ReferenceRuntime,
    RuntimeContract,
    tiny_policy,
)
from compressrl.training import TrainingSession

# --- compressors: each refuses what is quantized, as it should, and then errs


class Compressor:
    def compress(self, policy, lab):
        return self.changed(policy.with_network(policy.network, "copied"), policy, lab)


class TestEditsItsArgument(CompressorContract):
    broken = {"test_the_argument_is_not_changed"}

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            if policy.layers:
                policy.layers[1].weight.setflags(write=True)
                policy.layers[1].weight[:] *= 0.999
            return copy


class TestOtherSpaces(CompressorContract):
    broken = {
        "test_the_result_is_a_policy_for_the_same_spaces",
        "test_every_form_is_taken_or_refused_in_words",
    }

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            return replace(copy, action_high=2 * policy.action_high)


class TestOtherEnvironment(CompressorContract):
    broken = {"test_the_result_is_a_policy_for_the_same_spaces"}

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            return replace(copy, env_id="Other-v0")


class TestSilentProvenance(CompressorContract):
    broken = {"test_the_provenance_says_what_was_done"}

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            return replace(copy, provenance=policy.provenance)


class TestForgetsEarlierProvenance(CompressorContract):
    broken = {"test_the_provenance_says_what_was_done"}

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            return replace(copy, provenance=("new", "newer"))


class TestLeavesTheBounds(CompressorContract):
    broken = {
        "test_actions_are_finite_and_within_bounds",
        "test_actions_are_within_bounds_far_from_everything_seen",
        "test_every_form_is_taken_or_refused_in_words",
    }

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            return copy.with_network(nn.Sequential(*list(copy.network.children())[:-1]), "without scaling")

    def lab(self, policy, seed=0):
        return Lab(policy.env_id, seed, baseline=policy)


class TestConstant(CompressorContract):
    broken = {"test_actions_still_depend_on_the_observation"}

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            network = copy.network
            nn.utils.vector_to_parameters(
                0 * nn.utils.parameters_to_vector(network.parameters()), network.parameters()
            )
            return copy.with_network(network, "zeroed")


class TestUnseeded(CompressorContract):
    broken = {"test_the_same_seed_gives_the_same_result_whatever_ran_before"}

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            network = copy.network
            for parameter in network.parameters():
                parameter.data *= 1 + 0.01 * np.random.random()
            return copy.with_network(network, "noise")


class LyingPolicy(Policy):
    """Its file and its export are those of another network."""

    def to_bytes(self):
        return replace(tiny_policy(seed=1), provenance=self.provenance).to_bytes()

    def to_onnx(self):
        return tiny_policy(seed=2).to_onnx()


class TestFileAndExportOfAnotherNetwork(CompressorContract):
    broken = {"test_the_result_survives_its_file", "test_the_onnx_export_agrees_with_the_policy"}

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            values = {f.name: getattr(copy, f.name) for f in fields(Policy)}
            return LyingPolicy(**values) if policy.layers else copy


class TestCrashesOnOtherForms(CompressorContract):
    broken = {"test_every_form_is_taken_or_refused_in_words"}

    class plugin:
        def compress(self, policy, lab):
            return policy._with("copied", layers=tuple(policy.layers))


class TestPrints(CompressorContract):
    broken = {"test_nothing_is_printed_on_stdout_or_left_on_disk"}

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            print("done")
            return copy


class TestLeavesAFile(CompressorContract):
    broken = {"test_nothing_is_printed_on_stdout_or_left_on_disk"}

    class plugin(Compressor):
        def changed(self, copy, policy, lab):
            Path("model.onnx").write_bytes(policy.to_onnx())
            return copy

    @staticmethod
    def teardown_method():
        Path("model.onnx").unlink(missing_ok=True)


class Copies(Compressor):
    def changed(self, copy, policy, lab):
        return copy


class TestDefaultOutOfRange(CompressorContract):
    broken = {"test_options_are_described_and_the_defaults_are_valid"}

    @dataclass(frozen=True)
    class plugin(Copies):
        ratio: Annotated[float, Option("share", low=0, high=1)] = 2.0

    options = {"ratio": 0.5}


class TestUndescribedOption(CompressorContract):
    broken = {"test_options_are_described_and_the_defaults_are_valid"}

    @dataclass(frozen=True)
    class plugin(Copies):
        ratio: float = 0.5


class TestChangeableOptions(CompressorContract):
    broken = {"test_options_are_described_and_the_defaults_are_valid"}

    @dataclass
    class plugin(Copies):
        ratio: Annotated[float, Option("share", low=0, high=1)] = 0.5


# --- runtimes


def runtime(make_function):
    """A runtime class whose loaded function is make_function(policy)."""

    class Runtime:
        def load(self, policy):
            return make_function(policy)

    return Runtime


def checked(policy, observation):
    return ReferenceRuntime().load(policy)(observation)


def reused_buffer(policy):
    buffer = np.zeros(policy.action_size, np.float32)

    def act(observation):
        buffer[:] = checked(policy, observation)
        return buffer

    return act


class TestReusedBuffer(RuntimeContract):
    broken = {"test_an_action_is_the_callers_to_keep"}
    plugin = runtime(reused_buffer)


class TestBroadcasts(RuntimeContract):
    broken = {"test_an_observation_of_another_size_is_refused"}
    plugin = runtime(lambda policy: policy)


class TestDoublePrecision(RuntimeContract):
    broken = {"test_one_observation_gives_one_float32_action"}
    plugin = runtime(lambda policy: lambda x: checked(policy, x).astype(np.float64))


class TestBatch(RuntimeContract):
    broken = {"test_one_observation_gives_one_float32_action"}
    plugin = runtime(lambda policy: lambda x: checked(policy, x)[None])


class TestOtherWeights(RuntimeContract):
    broken = {
        "test_each_form_is_executed_as_the_policy_itself_does_or_refused",
        "test_two_loaded_policies_do_not_disturb_each_other",
        "test_a_wide_network_is_executed_too",
    }
    plugin = runtime(lambda policy: lambda x: checked(policy, x) * np.float32(1.01))


class TestShiftsItsInput(RuntimeContract):
    broken = {"test_the_observation_is_not_changed_or_remembered"}

    @staticmethod
    def plugin():
        def make(policy):
            def act(observation):
                action = checked(policy, observation)
                if observation.flags.c_contiguous and observation.base is None:
                    observation += 1
                return action

            return act

        return runtime(make)()


class TestRawPointer(RuntimeContract):
    broken = {"test_an_observation_need_not_be_contiguous"}

    @staticmethod
    def plugin():
        def make(policy):
            def act(observation):
                size = observation.shape
                raw = (
                    np.lib.stride_tricks.as_strided(observation, strides=(4,))
                    if size == (3,)
                    else observation
                )
                return checked(policy, raw)

            return act

        return runtime(make)()


def drifting(policy):
    calls = 0

    def act(observation):
        nonlocal calls
        calls += 1
        return checked(policy, observation) + np.float32(1e-7 * max(calls - 300, 0))

    return act


class TestDrifts(RuntimeContract):
    broken = {"test_a_thousand_calls_change_nothing"}
    plugin = runtime(drifting)


class TestOneForAll(RuntimeContract):
    broken = {"test_two_loaded_policies_do_not_disturb_each_other"}

    class plugin:
        def load(self, policy):
            self.policy = policy
            return lambda x: checked(self.policy, x)


class TestExplodesFarOut(RuntimeContract):
    broken = {"test_far_observations_give_finite_actions"}
    plugin = runtime(
        lambda policy: lambda x: checked(policy, x) + np.float32(math.nan if abs(x).max() > 100 else 0)
    )


class TestEditsWeights(RuntimeContract):
    broken = {"test_loading_does_not_change_the_policy"}

    class plugin:
        def load(self, policy):
            if policy.layers:
                policy.layers[1].weight.setflags(write=True)
                policy.layers[1].weight[:] *= 0.999
            return lambda x: checked(policy, x)


class TestForgetsProvenance(RuntimeContract):
    broken = {"test_what_is_prepared_stays_the_same_policy"}

    class plugin(ReferenceRuntime):
        def prepare(self, policy):
            return replace(policy, provenance=())


class TestPreparesTwice(RuntimeContract):
    broken = {"test_what_is_prepared_stays_the_same_policy"}

    class plugin(ReferenceRuntime):
        def prepare(self, policy):
            return policy.with_graph(policy.to_onnx(), "written again")


class TestDeploysThisPackage(RuntimeContract):
    broken = {"test_what_is_deployed_acts_alike_without_this_package"}

    class plugin(ReferenceRuntime):
        def deploy(self, policy, folder):
            policy.save(folder / "policy")
            (folder / "deployed.py").write_text(
                "import numpy as np\n"
                "from compressrl import Policy\n"
                "def load(folder, observation_size, action_size):\n"
                "    policy = Policy.load(folder + '/policy')\n"
                "    return lambda observation: policy(np.asarray(observation)).tolist()\n"
            )


class TestDeploysAnother(RuntimeContract):
    broken = {"test_what_is_deployed_acts_alike_without_this_package"}

    class plugin(ReferenceRuntime):
        def deploy(self, policy, folder):
            (folder / "deployed.py").write_text(
                "def load(folder, observation_size, action_size):\n"
                "    return lambda observation: [0.5] * action_size\n"
            )


class TestExecutesWhatItShouldRefuse(RuntimeContract):
    broken = {"test_each_form_is_executed_as_the_policy_itself_does_or_refused"}
    plugin = ReferenceRuntime
    forms = ("network", "foreign")


class TestTalkative(RuntimeContract):
    broken = {"test_nothing_is_printed_on_stdout"}

    class plugin(ReferenceRuntime):
        def load(self, policy):
            os.write(1, b"session created\n")  # as a C library would
            return super().load(policy)


# --- profilers


class Meter:
    quantity, unit = "energy", "J"

    def __init__(self):
        self.count = 0.0

    def available(self):
        return True, "counts"

    def read(self):
        self.count += 1
        return self.count


class TestZeroForUnknown(ProfilerContract):
    broken = {"test_a_reading_is_a_finite_number_or_none_where_there_is_no_meter"}

    class plugin(Meter):
        def available(self):
            return False, "no meter"

        def read(self):
            return 0.0


class TestNoReason(ProfilerContract):
    broken = {"test_availability_comes_with_its_source_or_reason"}

    class plugin(Meter):
        def available(self):
            return False, ""

        def read(self):
            return None


class TestNoUnit(ProfilerContract):
    broken = {"test_quantity_and_unit_are_named"}

    class plugin(Meter):
        unit = ""


class TestFallingCounter(ProfilerContract):
    broken = {"test_a_counter_never_decreases"}

    class plugin(Meter):
        def read(self):
            return super().read() % 700


class TestAnotherCounterInTheStepLoop(ProfilerContract):
    broken = {"test_a_step_loops_reader_gives_what_read_gives"}

    class plugin(Meter):
        def reader(self):
            return lambda: 0.0


class TestFirstComesFirstServed(ProfilerContract):
    broken = {"test_two_instances_read_alike"}
    owner = None

    class plugin(Meter):
        def __init__(self):
            super().__init__()
            TestFirstComesFirstServed.owner = TestFirstComesFirstServed.owner or self

        def read(self):
            return super().read() if TestFirstComesFirstServed.owner is self else None

        def available(self):
            return self.read() is not None, "the meter opens once"


class TestLeaksFiles(ProfilerContract):
    broken = {"test_reading_keeps_no_more_files_or_threads_open"}

    class plugin(Meter):
        def read(self):
            os.open("/dev/null", os.O_RDONLY)
            return super().read()


class TestOneThreadOnly(ProfilerContract):
    broken = {"test_another_thread_may_read"}

    class plugin(Meter):
        def read(self):
            return super().read() if threading.current_thread() is threading.main_thread() else None


class TestOneProcessOnly(ProfilerContract):
    broken = {"test_a_forked_process_reads_too"}

    class plugin(Meter):
        def __init__(self):
            super().__init__()
            self.pid = os.getpid()

        def read(self):
            if self.pid != os.getpid():
                raise OSError("bad file descriptor")
            return super().read()


class TestOneRecordOnly(ProfilerContract):
    broken = {"test_workloads_get_one_record_each"}

    class plugin(Meter):
        def measure(self, workloads):
            return [Latency(p50_us=1.0)]


class TestNotANumber(ProfilerContract):
    broken = {"test_workloads_get_one_record_each"}

    class plugin(Meter):
        def measure(self, workloads):
            return [Latency(p50_us=math.nan) for _ in workloads]


class TestTalkativeMeter(ProfilerContract):
    broken = {"test_nothing_is_printed_on_stdout"}

    class plugin(Meter):
        def available(self):
            print("looking for meters")
            return super().available()


# --- algorithms: random search in a lab that is not the one it was given


class Search(RandomSearch):
    def train(self, lab):
        return super().train(self.elsewhere(lab))


class Small(AlgorithmContract):
    steps = 60


class TestIgnoresTheSeed(Small):
    broken = {"test_another_seed_gives_other_weights"}

    class plugin(Search):
        def elsewhere(self, lab):
            lab.rng = lab.seed = 0
            return lab


class TestUnseededAlgorithm(Small):
    broken = {"test_the_same_seed_gives_the_same_weights_whatever_ran_before"}

    class plugin(Search):
        def elsewhere(self, lab):
            lab.seed = np.random.randint(2**31) if lab.seed == 7 else lab.seed
            return lab


class TestNeverLearns(Small):
    broken = {
        "test_weights_go_on_changing",
        "test_a_run_can_be_prolonged",
        "test_a_warm_start_learns_without_touching_the_policy_it_starts_from",
    }
    options = {"step_size": 0.0}
    plugin = RandomSearch


class TestTakesTooLong(Small):
    broken = {
        "test_the_environment_gets_the_steps_asked_for_and_valid_actions",
        "test_a_run_can_be_prolonged",
    }

    class plugin(Search):
        def elsewhere(self, lab):
            lab.training.steps = round(1.2 * lab.training.steps)
            return lab


class TestKeepsNothing(Small):
    broken = {
        "test_a_run_leaves_its_curve_and_its_policies",
        "test_a_finished_run_is_not_run_again",
        "test_a_run_can_be_prolonged",
        "test_ctrl_c_keeps_what_was_learnt",
        "test_an_environment_that_fails_leaves_a_run_to_go_on_with",
        "test_an_evaluation_that_ctrl_c_cuts_is_made_when_the_run_goes_on",
        "test_the_checkpoint_of_another_run_is_refused",
    }

    class plugin(Search):
        def elsewhere(self, lab):
            lab.training.folder = None
            return lab


class TestStartsAnew(Small):
    broken = {"test_a_warm_start_begins_as_the_policy_it_starts_from"}

    class plugin(Search):
        def elsewhere(self, lab):
            lab.training.start = None
            return lab


class TestNotAdapted(Small):
    broken = {"test_an_adapted_actor_is_what_is_trained_and_returned"}

    class plugin(Search):
        def elsewhere(self, lab):
            lab.training.adapt_actor = lambda actor: actor
            return lab


class TestSwallowsCtrlC(Small):
    broken = {
        "test_ctrl_c_keeps_what_was_learnt",
        "test_an_evaluation_that_ctrl_c_cuts_is_made_when_the_run_goes_on",
    }

    class plugin(RandomSearch):
        def train(self, lab):
            try:
                return super().train(lab)
            except KeyboardInterrupt:
                return tiny_policy()


class NeverCatching(TrainingSession):
    """Saves what Ctrl-C stops, and nothing else."""

    @contextlib.contextmanager
    def stoppable(self, save):
        try:
            yield
        except KeyboardInterrupt:
            save()
            raise


class TestLosesWhatAFailureStops(Small):
    broken = {"test_an_environment_that_fails_leaves_a_run_to_go_on_with"}

    class plugin(Search):
        def elsewhere(self, lab):
            lab.training.__class__ = NeverCatching
            return lab


class Forgetful(TrainingSession):
    """Whose first boundary at the step of a checkpoint is no boundary."""

    def boundary(self, step, policy, state, *, has_learnt=True):
        if step != self.resumed_at:
            super().boundary(step, policy, state, has_learnt=has_learnt)


class TestForgetsAnEvaluation(Small):
    broken = {"test_an_evaluation_that_ctrl_c_cuts_is_made_when_the_run_goes_on"}

    class plugin(Search):
        def elsewhere(self, lab):
            lab.training.__class__ = Forgetful
            return lab


class TestNoScaling(Small):
    broken = {"test_actions_are_finite_and_within_bounds"}

    class plugin(RandomSearch):
        def train(self, lab):
            policy = super().train(lab)
            return (
                policy.with_network(policy.network[:-2], "without scaling")
                if not lab.training.start
                else policy
            )


class TestOtherActionSpace(Small):
    broken = {"test_the_policy_fits_the_environment"}

    class plugin(RandomSearch):
        def train(self, lab):
            return replace(super().train(lab), action_low=np.full(2, -5, np.float32))


class TestTalkativeAlgorithm(Small):
    broken = {"test_nothing_is_printed_on_stdout"}

    class plugin(RandomSearch):
        def train(self, lab):
            print("training")
            return super().train(lab)
