"""Pipelines: parsed with every mistake shown at once, run with the failing stage named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressrl import pipeline, plugins
from compressrl.errors import (
    CompressrlError,
    EnvironmentUnavailableError,
    OptionError,
    PipelineError,
    UnknownNameError,
    UsageError,
)
from compressrl.lab import Lab
from compressrl.policy import Policy
from compressrl.testing import TINY, tiny_policy
from compressrl.testing.policies import states

STAGES = """
    from dataclasses import dataclass, replace
    from typing import Annotated, ClassVar, Literal

    import numpy as np
    from torch import nn

    from compressrl import Option, PluginEntry, hookimpl
    from compressrl.testing import tiny_policy

    NAMES = {"scale": "Scale", "freeze": "Freeze", "bad": "Bad", "4bit": "Scale", "forget": "Forget"}

    @hookimpl
    def compressrl_compressors():
        return [PluginEntry(name, "", f"stages:{target}") for name, target in NAMES.items()]

    @dataclass(frozen=True)
    class Scale:
        by: Annotated[float, Option("factor of the first layer")] = 0.5
        label: Annotated[str, Option("a text")] = ""

        def compress(self, policy, lab):
            network = policy.network
            network[1].weight.data *= self.by
            lab.environment_steps_used += 10
            return policy.with_network(network, f"scaled by {self.by:g}")

    @dataclass(frozen=True)
    class Freeze:
        takes: ClassVar = ("network",)
        gives: ClassVar = "integer"

        def compress(self, policy, lab):
            policy.network
            return policy.with_integer(tiny_policy("integer").integer, "frozen")

    class Forget:
        def compress(self, policy, lab):
            policy.integer
            return policy

    @dataclass(frozen=True)
    class Bad:
        how: Annotated[str, Option("what it does wrong")] = "raise"

        def compress(self, policy, lab):
            network = policy.network
            nan = nn.Linear(3, 2)
            nan.weight.data.fill_(float("nan"))
            match self.how:
                case "raise":
                    raise RuntimeError("no luck\\ntoday")
                case "none":
                    return None
                case "module":
                    return network
                case "inputs":
                    return policy.with_network(nn.Linear(4, 2), "other inputs")
                case "outputs":
                    return policy.with_network(nn.Linear(3, 3), "other outputs")
                case "spaces":
                    return replace(policy, observation_size=4)
                case "nan":
                    return policy.with_network(nan, "NaN")
"""


@pytest.fixture(autouse=True)
def _stages(install):
    install("stages", {"stages": "stages"}, {"stages": STAGES})


def run(text: str, policy: Policy | None = None) -> Policy:
    return pipeline.run(pipeline.parse(text), policy or tiny_policy(), Lab(TINY))


def first_weights(policy: Policy) -> np.ndarray:
    with torch.no_grad():
        return policy.network[1].weight.numpy()


def test_stages_run_in_order_each_on_the_result_of_the_one_before():
    start = tiny_policy()
    result = run("scale:by=2+scale:by=0.25 + freeze", start)
    assert result.provenance == (*start.provenance, "scaled by 2", "scaled by 0.25", "frozen")
    assert result.form == "integer"
    np.testing.assert_allclose(
        first_weights(run("scale:by=2+scale:by=0.25", start)), first_weights(start) / 2
    )


def test_the_argument_is_left_as_it_was():
    start = tiny_policy()
    before = start(states())
    run("scale", start)
    np.testing.assert_array_equal(start(states()), before)
    assert len(start.provenance) == 1


@pytest.mark.parametrize("text", ["", "+", "scale+", "+scale", "scale++scale", " + scale"])
def test_an_empty_stage_is_refused(text):
    with pytest.raises(PipelineError, match="empty stage"):
        pipeline.parse(text)


def test_a_mistake_in_the_last_stage_shows_before_the_first_runs():
    with pytest.raises(UnknownNameError, match="Did you mean 'scale'"):
        pipeline.parse("scale+scal")
    with pytest.raises(OptionError, match="scale has no option 'size'"):
        pipeline.parse("scale+scale:size=1")


@given(
    st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=4), st.sampled_from(["{!r}", "{:+.3e}", "{:E}"])
)
def test_numbers_with_signs_and_exponents_are_no_joints(numbers, form):
    texts = [form.format(number) for number in numbers]
    stages = pipeline.parse("+".join(f"scale:label=a,by={text}" for text in texts))
    assert [stage.compressor.by for stage in stages] == [float(text) for text in texts]


def test_names_that_begin_with_a_digit_are_stages():
    assert [s.text for s in pipeline.parse("4bit+4bit:by=1e+3+4bit")] == ["4bit", "4bit:by=1e+3", "4bit"]


def test_an_impossible_order_is_refused_before_anything_runs():
    with pytest.raises(PipelineError) as error:
        pipeline.parse("scale+freeze+freeze")
    assert "'freeze' cannot follow 'freeze'" in str(error.value)
    assert "it takes a policy in network form, and gets one in integer form" in str(error.value)


def test_an_impossible_order_that_nobody_declared_names_the_stage():
    with pytest.raises(PipelineError) as error:
        run("freeze+scale:by=2")
    assert "stage 2 of 2, 'scale:by=2'" in str(error.value)
    assert "the policy is in integer form (made by: frozen). Put the quantizer last" in str(error.value)
    with pytest.raises(PipelineError, match=r"stage 1 of 1, 'forget'.*needs an integer network"):
        run("forget")


@pytest.mark.parametrize("stage", ["scale", "l2:ratio=0.5", "l2:ratio=0.5,preset=paper", "distill", "ptsq"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_policy_that_holds_no_numbers_is_refused_whatever_comes(stage, bad):
    rows = list(tiny_policy().layers)
    mean = rows[0].mean.copy()
    mean[1] = bad
    broken = replace(tiny_policy(), layers=(replace(rows[0], mean=mean), *rows[1:]))
    with pytest.raises(UsageError, match=r"NaN or infinity \(layers.0.mean\)"):
        pipeline.run(pipeline.parse(stage), broken, Lab(broken.env_id, baseline=broken))


def test_modules_of_unknown_types_are_looked_at_too():
    network = tiny_policy("foreign").network
    name, parameter = next(iter(network.named_parameters()))
    parameter.data.fill_(np.nan)
    with pytest.raises(UsageError, match=rf"NaN or infinity \({name}\)"):
        tiny_policy().with_network(network, "broken").refuse_not_finite()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("none", "it returned NoneType, not a Policy"),
        ("module", "it returned Sequential, not a Policy"),
        ("inputs", "cannot act on 3 observations"),
        ("outputs", "changed the observation or action size"),
        ("spaces", "changed the observation or action size"),
        ("nan", "NaN or infinite actions"),
    ],
)
def test_a_stage_that_returns_no_fitting_policy_is_named(how, reason):
    with pytest.raises(PipelineError) as error:
        run(f"scale+bad:how={how}")
    assert f"stage 2 of 2, 'bad:how={how}': " in str(error.value)
    assert reason in str(error.value)


def test_a_stage_that_raises_anything_is_named():
    with pytest.raises(CompressrlError) as error:
        run("scale+bad")
    assert not isinstance(error.value, UsageError)
    assert "stage 2 of 2, 'bad': RuntimeError: no luck today." in str(error.value)
    assert isinstance(error.value.__cause__, RuntimeError)


def test_compress_in_python_writes_the_file_and_returns_the_policy(tmp_path):
    tiny_policy().save(tmp_path / "big.policy")
    heard = []
    result = pipeline.compress(
        tmp_path / "big.policy",
        "scale:by=2+freeze",
        out=tmp_path / "new" / "small.policy",
        progress=lambda task, done, total, note="": heard.append((task, done)),
    )
    loaded = Policy.load(tmp_path / "new" / "small.policy")
    assert loaded.provenance == result.provenance == (*tiny_policy().provenance, "scaled by 2", "frozen")
    assert heard == [(f"compressing: {s}", n) for s in ("scale:by=2", "freeze") for n in (0, 1)]
    assert pipeline.compress(tiny_policy(), "scale").provenance[-1] == "scaled by 0.5"


def test_compress_checks_where_it_writes_before_it_works(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        pipeline.compress(tiny_policy(), "bad", out=tmp_path / "file" / "small.policy")
    with pytest.raises(UsageError, match="is a folder"):
        pipeline.compress(tiny_policy(), "bad", out=tmp_path)


def test_compress_leaves_the_policy_that_it_reads(tmp_path):
    path = tmp_path / "my.policy"
    tiny_policy().save(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"my\.policy would be replaced"):
        pipeline.compress(path, "ptsq", out=str(path))
    assert path.read_bytes() == before


def test_a_policy_that_does_not_fit_the_environment_is_refused():
    with pytest.raises(EnvironmentUnavailableError, match="takes 3 observations and gives 2 actions"):
        pipeline.compress(tiny_policy(), "scale", env_id="InvertedPendulum-v5")


def test_the_lab_trains_by_the_algorithm_that_learnt_the_policy(install):
    install("learn", {"learn": "learn"}, {"learn": """
        from compressrl import PluginEntry, hookimpl

        @hookimpl
        def compressrl_algorithms():
            return [PluginEntry("search", "", "compressrl.testing.algorithms:RandomSearch")]
    """})  # fmt: skip
    plugins.registry.cache_clear()
    subject = tiny_policy()
    assert pipeline.lab_for(subject, TINY, "", 0).algorithm is None
    assert pipeline.lab_for(subject, TINY, "search:hidden=3", 0).algorithm.hidden == 3
    with pytest.raises(UnknownNameError, match="Unknown algorithm 'serch'"):
        pipeline.lab_for(subject, TINY, "serch", 0)
