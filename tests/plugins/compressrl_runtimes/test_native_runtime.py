import logging
import runpy
import subprocess
import sys

import numpy as np
import pytest

import compressrl
from compressrl import files, pipeline, sources
from compressrl.c_code import c_compiler, c_source
from compressrl.errors import UsageError
from compressrl.lab import Lab
from compressrl.measuring import doctor, profiling
from compressrl.networks import onnx_graph
from compressrl.testing import RuntimeContract, tiny_policy
from compressrl.testing.policies import states
from compressrl_runtimes.native_runtime import NativeRuntime


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))


class TestNativeRuntime(RuntimeContract):
    plugin = NativeRuntime
    forms = ("network", "integer")


def compiled(tmp_path):
    return sorted((tmp_path / "cache" / "compiled").glob("*.so"))


def test_an_observation_may_lie_in_memory_as_it_likes():
    function, state = NativeRuntime().load(tiny_policy()), states(1)[0]
    expected = function(state)
    for same in (state.astype(np.float64), np.repeat(state, 2)[::2], state.astype(">f4")):
        assert np.array_equal(function(same), expected)


def test_a_policy_is_compiled_once(tmp_path, monkeypatch):
    NativeRuntime().load(tiny_policy())
    (library,) = compiled(tmp_path)
    made = library.stat().st_mtime_ns
    NativeRuntime().load(tiny_policy())
    assert compiled(tmp_path) == [library]
    assert library.stat().st_mtime_ns == made
    NativeRuntime().load(tiny_policy(seed=5))
    assert len(compiled(tmp_path)) == 2


def test_a_compiled_policy_loads_without_its_text_being_written(monkeypatch):
    expected = NativeRuntime().load(tiny_policy())(states(1)[0])
    monkeypatch.setattr(c_source, "write", lambda policy: pytest.fail("it was written"))
    assert np.array_equal(NativeRuntime().load(tiny_policy())(states(1)[0]), expected)


def test_changed_writing_code_compiles_anew(tmp_path, monkeypatch):
    NativeRuntime().load(tiny_policy())
    monkeypatch.setattr(c_source, "_code_digest", lambda: "another")
    NativeRuntime().load(tiny_policy())
    assert len(compiled(tmp_path)) == 2


def test_without_a_compiler_onnx_takes_over_and_it_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with caplog.at_level(logging.WARNING, logger="compressrl"):
        function = NativeRuntime().load(tiny_policy())
    assert "in ONNX Runtime instead: No C compiler (cc, gcc, clang). Install gcc" in caplog.text
    assert np.allclose(function(states(1)[0]), tiny_policy()(states(1)[0]), atol=1e-5)


def test_without_a_compiler_a_report_names_what_executed_the_policy(monkeypatch, caplog):
    monkeypatch.setenv("CC", "no-such-compiler")
    policy = tiny_policy()
    report = compressrl.evaluate(
        compressor="ptsq:calibration_steps=100",
        policy=policy,
        runtime="native",
        episodes=1,
        profilers=["memory:repeats=1", "energy:windows=2"],
    )
    assert report.request.runtime == report.baseline.runtime == "onnx"
    assert "native cannot be used here, onnx takes its place: The compiler of $CC, no-such" in caplog.text
    loaded, (skipped,) = profiling.load_all({"baseline": policy}, ["native", "onnx"])
    assert [each.runtime for each in loaded] == ["onnx"]
    assert (skipped.runtime, "no-such-compiler" in skipped.reason) == ("native", True)
    (row,) = [row for row in doctor.examine().runtimes if row.plugin.entry.name == "native"]
    assert [finding.usable for finding in row.findings] == [False]


def test_without_a_compiler_onnx_is_deployed(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    NativeRuntime().deploy(tiny_policy(), tmp_path)
    assert (tmp_path / "policy.onnx").exists()
    assert "onnxruntime" in (tmp_path / "deployed.py").read_text()


DEPLOYED = """
import sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import deployed
act = deployed.load(sys.argv[1], 3, 2)
import array
act(memoryview(array.array("f", [1, 2, 3])))
print(*sorted(set(sys.modules) - before))
"""


def test_what_is_deployed_needs_nothing_but_python(tmp_path):
    NativeRuntime().deploy(tiny_policy(), tmp_path)
    words = [sys.executable, "-I", "-c", DEPLOYED, str(tmp_path)]
    imported = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    packages = {name.partition(".")[0] for name in imported}
    assert packages - sys.stdlib_module_names == {"deployed"}


def test_what_is_deployed_refuses_an_observation_of_another_size(tmp_path):
    NativeRuntime().deploy(tiny_policy(), tmp_path)
    act = runpy.run_path(str(tmp_path / "deployed.py"))["load"](str(tmp_path), 3, 2)
    with pytest.raises(ValueError, match="different structures"):
        act(memoryview(np.zeros(4, np.float32)))


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch, caplog):
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'policy.c:1: error: no such register' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with caplog.at_level(logging.WARNING, logger="compressrl"):
        function = NativeRuntime().load(tiny_policy())
    assert "error: no such register" in caplog.text
    assert function(states(1)[0]).shape == (2,)
    assert compiled(tmp_path) == [], "nothing half-made stays in the cache"


def test_a_missing_compiler_of_cc_is_named(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(c_compiler.CompilerError, match=r"\$CC, no-such-compiler, is not there"):
        c_compiler.find()


def test_cc_may_have_arguments(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("CC", " env cc ")
    assert c_compiler.find()[1:] == ("cc",)
    with caplog.at_level(logging.WARNING, logger="compressrl"):
        NativeRuntime().load(tiny_policy())
    assert not caplog.text
    assert len(compiled(tmp_path)) == 1
    monkeypatch.setenv("CC", "cc -funroll-loops")  # of which no macro of the compiler tells
    c_compiler.shared_library("int x;", lambda: "int x;")
    monkeypatch.setenv("CC", "cc -fno-ident")
    c_compiler.shared_library("int x;", lambda: "int x;")
    assert len(compiled(tmp_path)) == 3


def test_where_the_cache_cannot_be_written_onnx_is_used(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, logger="compressrl"):
        function = NativeRuntime().load(tiny_policy())
    assert "in ONNX Runtime instead" in caplog.text
    assert f"Choose another {files.CACHE_VARIABLE}." in caplog.text
    assert function(states(1)[0]).shape == (2,)


@pytest.mark.parametrize("form", ["graph", "foreign"])
def test_what_has_no_c_form_is_sent_to_onnx(form):
    with pytest.raises(UsageError, match=r"The native runtime cannot.*no C form.*onnx"):
        NativeRuntime().load(tiny_policy(form))


@pytest.mark.slow
@pytest.mark.parametrize("compressor", ["", "ptsq"])
def test_it_agrees_with_onnx_on_ten_thousand_visited_states(compressor):
    """Float rounding differs; of the integer form it moves a level of a hidden unit once in a while."""
    policy = sources.find_policy("sac", "HalfCheetah-v5", "")
    if compressor:
        policy = pipeline.compress(policy, compressor)
    native, onnx = NativeRuntime().load(policy), onnx_graph.reference_function(policy.to_onnx())
    visited = Lab(policy.env_id).collect(policy, 10_000)
    difference = np.abs(np.stack([native(state) for state in visited]) - onnx(visited))
    assert difference.mean() < 1e-4
    assert np.quantile(difference, 0.999) < 1e-2 if compressor else difference.max() < 1e-4
