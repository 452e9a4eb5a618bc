"""Exported C compiles without a warning and computes what the policy computes, by every path in it."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from compressrl.c_code import c_source
from compressrl.errors import UsageError
from compressrl.networks import layers
from compressrl.networks.integer import IntegerLayer, IntegerNetwork
from compressrl.policy import Policy
from compressrl.testing import tiny_policy
from compressrl.testing.policies import states

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: cc")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
FLAGS = {
    "native": ["-O3", "-march=native"],
    "avx2": ["-O3", "-mavx2", "-mfma"],
    "sse2": ["-O3"],
    "plain": ["-O1", "-DPOLICY_PLAIN"],
    "fast-math": ["-Ofast", "-march=native"],
}


def machine_runs(path: str) -> bool:
    words = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return {"avx2": "avx2" in words, "sse2": "sse2" in words}.get(path, True)


PATHS = [pytest.param(p, marks=[] if machine_runs(p) else pytest.mark.skip("no such CPU")) for p in FLAGS]


def function(policy: Policy, folder: Path, path: str = "native"):
    source, library = folder / "policy.c", folder / f"{path}{len(list(folder.iterdir()))}.so"
    source.write_text(c_source.write(policy))
    # Linked apart: given -Ofast, gcc links code that makes this whole process flush small numbers to zero.
    made = library.with_suffix(".o")
    for command in (
        [*STRICT, *FLAGS[path], "-fPIC", "-c", str(source), "-o", str(made)],
        ["-shared", str(made), "-o", str(library), "-lm"],
    ):
        run = subprocess.run(["cc", *command], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    call = ctypes.CDLL(str(library)).policy_act

    def act(observations):
        actions = np.full((len(observations), policy.action_size), np.nan, np.float32)
        for row, action in zip(np.ascontiguousarray(observations), actions, strict=True):
            call(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(action.ctypes.data))
        return actions

    return act


def with_rows(*row, size=3, actions=2):
    """A policy of these layers for `size` observations."""
    return Policy("E-v0", "", size, -np.ones(actions), np.ones(actions), ("made",), layers=tuple(row))


def integer_policy(rng, sizes, activation, zero, bits=(8,)):
    """Integer layers with random weights of these widths in turns, whose sums spread over all levels."""
    most = [2 ** (width - 1) - 1 for width in bits]
    row = [
        IntegerLayer(
            w8=rng.integers(-largest, largest + 1, (outputs, inputs)),
            w_scale=rng.uniform(0.5, 1.5, outputs) / (largest * np.sqrt(inputs)),
            bias=rng.normal(0, 0.3, outputs),
            x_scale=0.02,
            x_zero=zero,
            activation=activation,
            bits=width,
        )
        for (inputs, outputs), largest, width in zip(
            itertools.pairwise(sizes), itertools.cycle(most), itertools.cycle(bits), strict=False
        )
    ]
    blank = with_rows(size=sizes[0], actions=sizes[-1])
    return blank.with_integer(IntegerNetwork((), tuple(row), (layers.Activation("tanh"),)), "quantized")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("activation", sorted(layers.ACTIVATIONS))
def test_float_networks(tmp_path, path, activation):
    policy = tiny_policy(hidden=(100, 70), activation=activation)
    observations = states(200)
    assert np.abs(function(policy, tmp_path, path)(observations) - policy(observations)).max() < 2e-6


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bits", [(8,), (4,), (8, 3, 5)])
@pytest.mark.parametrize("zero", [0, 119, 255])
def test_integer_networks_to_the_last_level(tmp_path, path, zero, bits):
    # 130 outputs: eight panels abreast, then one, then a part of one. 17 inputs: not whole fours.
    policy = integer_policy(np.random.default_rng(zero), (17, 130, 130, 6), "relu", zero, bits)
    observations = np.random.default_rng(1).normal(size=(300, 17)).astype(np.float32)
    assert np.abs(function(policy, tmp_path, path)(observations) - policy(observations)).max() < 1e-6


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 70), min_size=2, max_size=4),
    activation=st.sampled_from([None, *sorted(layers.ACTIVATIONS)]),
    bits=st.lists(st.integers(2, 8), min_size=1, max_size=3),
    seed=st.integers(0, 2**16),
)
def test_integer_networks_of_any_shape(tmp_path, sizes, activation, bits, seed):
    rng = np.random.default_rng(seed)
    policy = integer_policy(rng, sizes, activation, int(rng.integers(256)), bits)
    observations = rng.normal(size=(20, sizes[0])).astype(np.float32)
    found, expected = function(policy, tmp_path)(observations), policy(observations)
    # tanh and expm1 of numpy and of the C file differ in the last digit, which may move one level.
    exact = activation in (None, "relu")
    assert np.quantile(np.abs(found - expected), 1 if exact else 0.9) < (1e-6 if exact else 0.05)


def test_every_layer_kind_on_its_own(tmp_path):
    x = states(50)
    kinds = [
        layers.Standardize(np.array([0.1, 0, -0.1]), np.array([1, 2, 0.5]), 0.7),
        layers.Standardize(np.zeros(3), np.ones(3)),
        layers.Rescale(np.array([1, 2, 3]), np.array([0, -1, 1])),
        layers.Clip(np.array([-0.1, -0.2, -0.3]), np.array([0.1, 0.2, 0.3])),
        layers.Activation("relu"),
    ]
    for layer in kinds:
        policy = with_rows(layer, size=3, actions=3)
        assert np.allclose(function(policy, tmp_path)(x), policy(x), atol=1e-6), layer
    for row in (kinds, []):
        policy = with_rows(*row, size=3, actions=3)
        assert np.allclose(function(policy, tmp_path)(x), policy(x), atol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_tanh_is_right_to_single_precision_and_never_beyond_one(tmp_path, path):
    act = function(with_rows(layers.Activation("tanh"), size=1, actions=1), tmp_path, path)
    x = np.concatenate([np.geomspace(1e-30, 1e30, 20_000), np.linspace(0, 10, 20_001), [np.inf]])
    x = np.concatenate([x, -x]).astype(np.float32)[:, None]
    found, expected = act(x), np.tanh(x.astype(np.float64))
    assert (np.abs(found - expected) <= 6e-7 * np.abs(expected)).all()
    assert 1 - 6e-7 <= np.abs(found).max() <= 1
    # -ffast-math promises the compiler that there are none.
    assert path == "fast-math" or np.isnan(act(np.full((1, 1), np.nan, np.float32))).all()


def self_test(source: Path, *flags: str) -> tuple[int, str]:
    """Exit status and output of the program that a C file is."""
    program = source.with_suffix("")
    command = ["cc", *STRICT, *flags, f"-D{c_source.SELF_TEST}", str(source), "-o", str(program), "-lm"]
    subprocess.run(command, check=True)
    run = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    return run.returncode, run.stdout


def test_the_self_test_passes_and_can_fail(tmp_path):
    policy, observations = tiny_policy("integer"), states(8)
    actions = policy(observations)
    for expected, given_actions in ((0, actions), (1, actions + np.float32(0.01))):
        source = tmp_path / f"{expected}.c"
        source.write_text(c_source.write(policy, (), (observations, given_actions)))
        assert self_test(source) == (expected, f"{16 * expected} of 16 actions differ\n")


def test_the_self_test_allows_a_level_that_another_tanh_moves(tmp_path):
    """Sums of tanh round to another level once in a while; relu leaves nothing to differ."""
    rng = np.random.default_rng(0)
    policy = integer_policy(rng, (17, 64, 64, 6), "tanh", 128)
    observations = rng.normal(size=(200, 17)).astype(np.float32)
    for wrong, says in ((0, "0 of 1200"), (0.02, "1200 of 1200")):
        source = tmp_path / f"{wrong}.c"
        recorded = observations, policy(observations) + np.float32(wrong)
        source.write_text(c_source.write(policy, (), recorded))
        assert self_test(source, "-O3", "-march=native")[1] == f"{says} actions differ\n"
    exact = integer_policy(rng, (17, 64, 64, 6), "relu", 128)
    source.write_text(c_source.write(exact, (), (observations, exact(observations) + np.float32(0.001))))
    assert self_test(source)[1] == "1200 of 1200 actions differ\n"


@pytest.mark.parametrize("path", [p for p in PATHS if p.values[0] != "fast-math"])
def test_what_is_not_a_number_reaches_the_action_of_a_float_policy(tmp_path, path):
    policy = tiny_policy(activation="relu")
    assert np.isnan(function(policy, tmp_path, path)(np.full((1, 3), np.nan, np.float32))).all()


def test_not_a_number_in_the_observation_gives_no_undefined_level(tmp_path):
    policy = tiny_policy("integer")
    action = function(policy, tmp_path)(np.full((1, 3), np.nan, np.float32))
    assert np.isfinite(action).all(), "the lowest level, as a comparison with NaN is false"


def test_only_what_is_called_is_in_the_file():
    text = c_source.write(tiny_policy())
    assert "policy_linear" in text
    assert "policy_integer_linear" not in text
    assert "policy_elu" not in text
    assert "malloc" not in text


def test_the_head_tells_what_it_is_and_cannot_be_broken_out_of():
    policy = tiny_policy().with_network(tiny_policy().network, "evil */ int x; /* and *\\\n/ int y; /*")
    text = c_source.write(policy, ["Return 12.5 +- 1 over 3 episodes"])
    head = text[: text.index("*/")]
    assert "Return 12.5" in head
    assert "3 observations to 2 actions" in head
    assert "evil * / int x; / * and *\\ / int y; / *\n" in head


def test_weights_that_are_not_finite_are_refused_by_layer():
    weight = np.ones((2, 3), np.float32)
    weight[1, 1] = np.nan
    policy = with_rows(layers.Activation("relu"), layers.Linear(weight, np.zeros(2)))
    with pytest.raises(UsageError, match=r"Layer 1 \(Linear\) has a weight that is not finite"):
        c_source.write(policy)


@pytest.mark.parametrize(
    ("form", "what"), [("graph", "an ONNX graph"), ("foreign", "a ResidualNetwork module")]
)
def test_what_has_no_c_form_is_named(form, what):
    with pytest.raises(UsageError, match=rf"{what}.*--format onnx") as raised:
        c_source.write(tiny_policy(form))
    assert "\n" not in str(raised.value)


def test_the_layer_without_a_c_form_is_named():
    rows = (nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.GELU()), nn.Linear(4, 2))
    policy = tiny_policy().with_network(nn.Sequential(*rows), "curved")
    with pytest.raises(UsageError, match=r"a Sequential module with a GELU as layer 1\.1, which has no"):
        c_source.write(policy)
    with pytest.raises(UsageError, match=r"an ONNX graph of .*Gemm.*Tanh"):
        c_source.write(tiny_policy("graph"))


def test_a_sum_that_may_go_beyond_32_bits_is_refused():
    layer = IntegerLayer(np.full((1, 2), -127), np.ones(1), np.array([2.0**31 - 70_000]), 1.0, 0)
    policy = with_rows(size=2, actions=1).with_integer(IntegerNetwork((), (layer,), ()), "q")
    with pytest.raises(UsageError, match="layer of 2 inputs and 1 outputs a sum does not fit in 32 bits"):
        c_source.write(policy)
