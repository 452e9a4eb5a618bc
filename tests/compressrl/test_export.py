"""Export writes a file that runs on its own and says what it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from compressrl.c_code import microcontroller
from compressrl.cli import app
from compressrl.errors import UsageError
from compressrl.export import export
from compressrl.networks import layers, onnx_graph
from compressrl.testing import TINY, tiny_policy
from compressrl.testing.policies import states


def test_c_with_return_and_self_test(tmp_path):
    written = export(tiny_policy("integer"), tmp_path / "new" / "policy.c", episodes=3)
    text = written.path.read_text()
    assert f"Return {written.return_mean:.1f} +- {written.return_std:.1f} over 3 episodes" in text
    assert written.size_bytes == len(text.encode())
    program = tmp_path / "self_test"
    subprocess.run(["cc", "-DPOLICY_SELF_TEST", str(written.path), "-o", str(program), "-lm"], check=True)
    run = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    assert run.stdout == "0 of 32 actions differ\n"


def test_onnx_with_metadata(tmp_path):
    policy = tiny_policy("integer")
    policy.save(tmp_path / "tiny.policy")
    written = export(tmp_path / "tiny.policy", tmp_path / "policy.onnx", format="onnx", episodes=2)
    model = onnx.load(written.path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["environment"] == policy.env_id
    assert metadata["made"] == policy.provenance[0]
    assert "over 2 episodes" in metadata["remarks"]
    observations = states(5)
    found = onnx_graph.reference_function(written.path.read_bytes())(observations)
    assert np.allclose(found, policy(observations), atol=1e-5)
    assert written.cortex_m4 is None


def test_who_runs_the_onnx_file_is_told_what_int8_needs(tmp_path):
    tiny_policy("integer").save(tmp_path / "tiny.policy")
    words = ["export", "--policy", str(tmp_path / "tiny.policy"), "--episodes", "0", "--out"]
    for name, told in (("policy.onnx", True), ("policy.c", False)):
        printed = CliRunner().invoke(app, [*words, str(tmp_path / name)]).stdout
        assert ("session.x64quantprecision=1" in printed) is told


def test_the_format_follows_from_the_name_of_the_file(tmp_path):
    assert export(tiny_policy(), tmp_path / "policy.onnx", episodes=0).format == "onnx"
    assert export(tiny_policy(), tmp_path / "policy.c", episodes=0).format == "c"
    for name in ("policy", "policy.tflite"):
        with pytest.raises(UsageError, match=r"Which format\? .* end in \.c or \.onnx"):
            export(tiny_policy(), tmp_path / name, episodes=0)
    assert export(tiny_policy(), tmp_path / "policy", format="onnx", episodes=0).format == "onnx"
    with pytest.raises(UsageError, match=r"--format onnx in a file called \.c"):
        export(tiny_policy(), tmp_path / "other.c", format="onnx", episodes=0)
    assert not (tmp_path / "other.c").exists()


def test_a_policy_is_not_replaced_by_its_export(tmp_path):
    path = tmp_path / "my.policy"
    tiny_policy().save(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"my\.policy would be replaced"):
        export(path, tmp_path / "." / "my.policy", format="c", episodes=0)
    assert path.read_bytes() == before


def test_the_command_that_tests_it_can_be_pasted(tmp_path):
    tiny_policy().save(tmp_path / "tiny.policy")
    out = tmp_path / "my folder" / "a policy.c"
    words = ["export", "--policy", str(tmp_path / "tiny.policy"), "--episodes", "0", "--out", str(out)]
    printed = CliRunner().invoke(app, words).stdout
    command = printed.partition("Test it: ")[2]
    run = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == "0 of 32 actions differ\n"


def test_the_same_seed_writes_the_same_file(tmp_path):
    one, two, other = (
        export(tiny_policy(), tmp_path / f"{i}.c", episodes=1, seed=s).path.read_text()
        for i, s in enumerate([1, 1, 2])
    )
    assert one == two != other


def test_no_episode_states_no_return(tmp_path):
    written = export(tiny_policy(), tmp_path / "policy.c", episodes=0)
    assert written.return_mean is None
    assert "Return" not in written.path.read_text()
    assert written.to_json()["return_mean"] is None


def test_an_unknown_format_and_a_graph_as_c_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"--format rust.*c, onnx"):
        export(tiny_policy(), tmp_path / "policy.rs", format="rust")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no C form"):
        export(tiny_policy("graph"), tmp_path / "policy.c")
    assert list(tmp_path.iterdir()) == []


def test_without_a_cross_compiler_there_is_no_footprint(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert microcontroller.footprint("int x;") is None


def test_a_cross_compiler_that_fails_costs_the_footprint_only(tmp_path, monkeypatch, caplog):
    for name in (microcontroller.COMPILER, microcontroller.SIZE):
        (tmp_path / name).write_text("#!/bin/sh\necho 'fatal error: math.h: no such file' >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    written = export(tiny_policy(), tmp_path / "policy.c", episodes=0)
    assert written.cortex_m4 is None
    assert written.path.exists()
    assert "arm-none-eabi-gcc fails: fatal error: math.h" in caplog.text


@pytest.mark.skipif(shutil.which(microcontroller.COMPILER) is None, reason="no arm-none-eabi-gcc")
def test_flash_and_ram_on_a_cortex_m4(tmp_path):
    small, large = (
        export(tiny_policy("integer", hidden=(width,)), tmp_path / "p.c", episodes=0).cortex_m4
        for width in (16, 160)
    )
    assert small is not None
    assert large is not None
    # An output of the hidden layer costs 4 + 16 weights (padded), a bias and a scale, and a float of RAM.
    assert large.flash - small.flash == pytest.approx(144 * (4 + 16 + 4 + 4), rel=0.05)
    assert large.ram - small.ram == pytest.approx(144 * 5, rel=0.2)
    assert microcontroller.footprint("int x") is None


def test_a_policy_that_does_not_fit_its_environment_is_refused(tmp_path):
    for name in ("policy.c", "policy.onnx"):
        with pytest.raises(UsageError, match="takes 3 observations and gives"):
            export(tiny_policy(), tmp_path / name, env_id="HalfCheetah-v5", episodes=1)
    assert not list(tmp_path.iterdir())


def test_the_environment_can_be_named(tmp_path):
    lost = replace(tiny_policy(), env_id="Gone-v0")
    written = export(lost, tmp_path / "policy.c", env_id=TINY, episodes=1)
    assert f"1 episodes of {TINY}" in written.path.read_text()


def test_without_its_environment_a_policy_is_exported_without_a_return(tmp_path):
    lost = replace(tiny_policy("integer"), env_id="Gone-v0")
    with pytest.raises(UsageError, match="Gone-v0"):
        export(lost, tmp_path / "policy.c", episodes=1)
    written = export(lost, tmp_path / "policy.c", episodes=0)
    assert written.return_mean is None
    program = tmp_path / "self_test"
    subprocess.run(["cc", "-DPOLICY_SELF_TEST", str(written.path), "-o", str(program), "-lm"], check=True)
    assert subprocess.run([str(program)], capture_output=True, text=True).stdout == "0 of 32 actions differ\n"


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_deviation_of_zero_is_refused(tmp_path, std):
    """Of a constant feature, say: it would divide by it."""
    tiny = tiny_policy()
    first = layers.Standardize(np.zeros(3), np.array([1.0, std, 1.0]))
    with pytest.raises(UsageError, match="a standard deviation of 0"):
        export(replace(tiny, layers=(first, *tiny.layers)), tmp_path / "policy.c", episodes=0)


def test_actions_that_are_no_numbers_are_refused(tmp_path):
    tiny = tiny_policy()
    huge = layers.Linear(np.full((2, tiny.action_size), 3e38), np.zeros(2))
    last = layers.Linear(np.array([[1.0, -1.0]] * tiny.action_size) * 3e38, np.zeros(tiny.action_size))
    with pytest.raises(UsageError, match="NaN or infinite"), np.errstate(all="ignore"):
        export(replace(tiny, layers=(*tiny.layers, huge, last)), tmp_path / "policy.onnx", episodes=0)
