"""Policy: immutable, in three forms, and a file format that refuses everything but a policy."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as to_safetensors
from safetensors.torch import save_file as save_tensors
from torch import nn

from compressrl import policy
from compressrl.errors import CompressrlError, PipelineError, PolicyFileError
from compressrl.networks import layers, modules
from compressrl.policy import FORMAT_VERSION, Policy
from compressrl.testing import tiny_policy
from compressrl.testing.policies import FORMS, TinyForm, states

STORED: tuple[TinyForm, ...] = ("network", "integer", "graph")


@cache
def content(form: TinyForm = "network") -> bytes:
    """The file of a policy small enough to try every byte."""
    return tiny_policy(form, hidden=(2,)).to_bytes()


def read(path: Path, data: bytes) -> Policy:
    path.write_bytes(data)
    return Policy.load(path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policies") / "x.policy"


@pytest.mark.parametrize("form", STORED)
def test_a_file_gives_back_the_same_policy(scratch, form):
    original = tiny_policy(form)
    original.save(scratch)
    loaded = Policy.load(str(scratch))
    assert loaded.form == form
    for name in ("env_id", "algorithm", "observation_size", "provenance"):
        assert getattr(loaded, name) == getattr(original, name)
    np.testing.assert_array_equal(loaded.action_low, original.action_low)
    np.testing.assert_array_equal(loaded.action_high, original.action_high)
    np.testing.assert_array_equal(loaded(states()), original(states()))
    assert loaded.to_bytes() == original.to_bytes() == scratch.read_bytes()


def test_a_network_of_foreign_modules_is_stored_as_its_graph(scratch):
    original = tiny_policy("foreign")
    original.save(scratch)
    loaded = Policy.load(scratch)
    assert loaded.form == "graph"
    with torch.no_grad():
        expected = original.network(torch.from_numpy(states())).numpy()
    np.testing.assert_allclose(loaded(states()), expected, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_one_observation_and_a_batch_agree(form):
    subject, batch = tiny_policy(form), states(5)
    assert subject(batch).shape == (5, 2)
    assert subject(batch).dtype == np.float32
    assert subject(batch[0]).shape == (2,)
    np.testing.assert_allclose(np.stack([subject(x) for x in batch]), subject(batch), atol=1e-6)


def test_network_and_reference_agree():
    subject = tiny_policy()
    with torch.no_grad():
        np.testing.assert_allclose(
            subject.network(torch.from_numpy(states())).numpy(), subject(states()), atol=1e-6
        )


# What is no policy file.


@pytest.mark.parametrize("form", STORED)
def test_truncated_at_any_length(scratch, form):
    data = content(form)
    lengths = {*range(64), *range(64, len(data), 37), len(data) - 1}
    for length in lengths:
        with pytest.raises(PolicyFileError):
            read(scratch, data[:length])
    assert read(scratch, data)


@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), form=st.sampled_from(STORED))
def test_an_altered_byte_anywhere_is_refused_or_alters_nothing(scratch, position, flip, form):
    data = bytearray(content(form))
    data[int(position * len(data))] ^= flip
    try:
        loaded = read(scratch, bytes(data))
    except PolicyFileError as error:
        message = str(error)
        assert str(scratch) in message
        assert message.count("\n") <= 1
    else:
        # White space of the header, where another says the same: nothing of the policy has changed.
        assert loaded.to_bytes() == content(form)


def test_every_single_byte_of_the_weights_counts(scratch):
    data = content()
    header = 8 + int.from_bytes(data[:8], "little")
    for index in range(header, len(data)):
        with pytest.raises(PolicyFileError, match="altered"):
            read(scratch, data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(scratch, data):
    with pytest.raises(PolicyFileError):
        read(scratch, data)


@given(st.binary(max_size=100))
def test_bytes_appended_to_a_policy_are_refused(scratch, tail):
    if tail:
        with pytest.raises(PolicyFileError):
            read(scratch, content() + tail)


def sealed(document: Any, arrays: dict[str, np.ndarray]) -> bytes:
    """A file with a true hash: made by someone who knows the format, or by another version."""
    if isinstance(document, dict):
        document = document | {"sha256": policy._digest(document, arrays)}
    return to_safetensors(arrays, {"compressrl": json.dumps(document)})


def parts() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return policy._describe(tiny_policy(hidden=(2,)))


def test_a_sealed_file_is_read(scratch):
    assert read(scratch, sealed(*parts())).provenance == tiny_policy().provenance


def test_a_newer_format_says_to_upgrade(scratch):
    document, arrays = parts()
    with pytest.raises(PolicyFileError, match=rf"format {FORMAT_VERSION + 1}.*Upgrade compressrl"):
        read(scratch, sealed(document | {"version": FORMAT_VERSION + 1}, arrays))


@pytest.mark.parametrize("document", [[], 3, "text", None, {}, {"version": "2"}, {"version": None}])
def test_a_header_of_another_format_is_refused(scratch, document):
    with pytest.raises(PolicyFileError, match="not a policy"):
        read(scratch, sealed(document, parts()[1]))


@pytest.mark.parametrize(
    "change",
    [
        {"form": "unheard of"},
        {"form": "integer"},
        {"form": "graph"},
        {"observation_size": 4},
        {"observation_size": -1},
        {"observation_size": "three"},
        {"observation_size": 10**15},
        {"provenance": None},
        {"layers": []},
        {"layers": [{"kind": "unheard of"}]},
        {"layers": [{"kind": "activation", "name": "unheard of"}]},
        {"layers": [{"kind": "activation"}]},
        {"layers": [{"kind": "linear"}] * 3},
        {"layers": 3},
    ],
    ids=str,
)
def test_a_sealed_file_that_is_no_whole_policy_is_refused(scratch, change):
    document, arrays = parts()
    with pytest.raises(PolicyFileError, match="not a complete policy"):
        read(scratch, sealed(document | change, arrays))


@pytest.mark.parametrize("name", list(parts()[1]))
def test_a_sealed_file_that_lacks_an_array_is_refused(scratch, name):
    document, arrays = parts()
    del arrays[name]
    with pytest.raises(PolicyFileError, match="not a complete policy"):
        read(scratch, sealed(document, arrays))


def test_a_file_that_is_missing_a_folder_or_unreadable(tmp_path):
    for path in (tmp_path / "missing.policy", tmp_path, tmp_path / ("x" * 5000), tmp_path / "a\0b"):
        with pytest.raises(PolicyFileError):
            Policy.load(path)
    with pytest.raises(PolicyFileError, match="does not exist"):
        Policy.load(tmp_path / "missing.policy")


def test_files_of_other_tools_are_refused(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "model.pt")
    save_tensors({"weights": torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text("{}")
    for name in ("model.pt", "model.json"):
        with pytest.raises(PolicyFileError, match="damaged or not a policy file"):
            Policy.load(tmp_path / name)
    with pytest.raises(PolicyFileError, match="is a safetensors file, but not a compressrl policy"):
        Policy.load(tmp_path / "model.safetensors")


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(CompressrlError, match="cannot be written"):
        tiny_policy().save(tmp_path / "missing" / "x.policy")


# Immutability.


def test_changing_the_network_does_not_change_the_policy():
    for subject in (tiny_policy("network"), tiny_policy("foreign")):
        before = subject(states())
        network = subject.network
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        assert subject.network is not network
        np.testing.assert_array_equal(subject(states()), before)
        with torch.no_grad():
            np.testing.assert_allclose(subject.network(torch.from_numpy(states())).numpy(), before, atol=1e-5)


def test_changing_a_module_after_with_network_does_not_change_the_policy():
    for module in (nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2), nn.Softplus())):
        module.train()
        subject = tiny_policy().with_network(module, "taken")
        with torch.no_grad():
            before = subject.network(torch.from_numpy(states())).numpy().copy()
            module[0].weight.zero_()
            after = subject.network(torch.from_numpy(states())).numpy()
        np.testing.assert_array_equal(after, before)
        assert module.training, "the caller's module is the caller's"
        assert not subject.network.training


def test_arrays_are_copies_that_cannot_be_written():
    low, high = np.array([-1.0, -1.0]), np.ones(2, np.float32)
    weight = np.ones((2, 3))
    row = (layers.Linear(weight, np.zeros(2)), layers.Standardize(np.zeros(2), np.ones(2)))
    subject = Policy("x", "", 3, low, high, (), layers=row)
    low[:], weight[:] = 7, 7
    assert subject.action_low.tolist() == [-1, -1]
    assert subject(np.ones(3, np.float32)).tolist() == [3, 3]
    assert subject(np.ones(3, np.float32)).dtype == np.float32
    for array in (subject.action_low, row[0].weight, row[0].bias, row[1].mean):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_every_step_extends_the_provenance_and_replaces_the_form():
    subject = tiny_policy()
    graph = subject.with_graph(subject.to_onnx(), "exported")
    integer = graph.with_integer(tiny_policy("integer").integer, "rounded")
    network = integer.with_network(subject.network, "restored")
    assert network.provenance == (*subject.provenance, "exported", "rounded", "restored")
    assert [p.form for p in (subject, graph, integer, network)] == ["network", "graph", "integer", "network"]
    assert (graph.layers, integer.onnx_graph, network.integer_network) == (None, None, None)
    assert subject.provenance == tiny_policy().provenance


@pytest.mark.parametrize("form", ["integer", "graph"])
def test_the_float_network_of_a_quantized_policy_is_gone_and_the_error_says_what_to_do(form):
    subject = tiny_policy(form)
    with pytest.raises(PipelineError) as error:
        _ = subject.network
    assert subject.provenance[-1] in str(error.value)
    assert f"the policy is in {form} form (made by: " in str(error.value)
    assert "Put the quantizer last" in str(error.value)


@pytest.mark.parametrize(
    ("form", "missing"), [("network", "integer"), ("graph", "integer"), ("integer", "graph")]
)
def test_a_missing_form_says_what_to_do(form, missing):
    with pytest.raises(PipelineError, match=rf"the policy is in {form} form\. Put "):
        getattr(tiny_policy(form), missing)


def test_a_policy_without_history_still_says_what_is_wrong():
    graph = tiny_policy().to_onnx()
    with pytest.raises(PipelineError, match="needs the float network"):
        _ = Policy("x", "", 3, np.zeros(2), np.ones(2), (), onnx_graph=graph).network


@pytest.mark.parametrize("form", STORED)
def test_a_graph_computes_what_the_policy_computes(form):
    subject = tiny_policy(form)
    again = subject.with_graph(subject.to_onnx(), "exported")
    np.testing.assert_allclose(again(states()), subject(states()), atol=1e-5)


def test_a_known_network_is_described_and_not_kept_as_torch():
    subject = tiny_policy().with_network(modules.to_module(tiny_policy().layers or ()), "again")
    assert subject.foreign is None
    assert subject.layers is not None


def test_an_action_without_a_range_has_one_as_its_unit():
    """A locked joint: errors of its action are told in units, not divided by nothing."""
    low, high = np.float32([-2, 1]), np.float32([4, 1])
    assert Policy("Tiny-v0", "x", 3, low, high, ()).half_range.tolist() == [3, 1]
