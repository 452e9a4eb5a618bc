import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compressrl import Policy
from compressrl.errors import CompressrlError, UsageError
from compressrl.testing import RuntimeContract, tiny_policy
from compressrl.testing.policies import FORMS, states
from compressrl_runtimes.onnx_runtime import OnnxRuntime


class TestOnnxRuntime(RuntimeContract):
    plugin = OnnxRuntime


class TestOnnxRuntimeUnprepared(RuntimeContract):
    """A caller may load any form at once, without `prepare`."""

    class plugin:  # noqa: N801
        def load(self, policy):
            return OnnxRuntime().load(policy)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_shipped_is_a_graph_with_an_honest_provenance(form):
    policy = tiny_policy(form)
    shipped = OnnxRuntime().prepare(policy)
    assert shipped.form == "graph"
    if form == "graph":
        assert shipped is policy
    else:
        assert shipped.provenance == (*policy.provenance, "written as an ONNX graph")


CHILD = """
import json, sys
import numpy as np
from compressrl import Policy
from compressrl_runtimes.onnx_runtime import OnnxRuntime
function = OnnxRuntime().load(Policy.load(sys.argv[1]))
action = function(np.ones(3, np.float32))
print(json.dumps([action.tolist(), sorted({"torch", "onnx", "gymnasium"} & set(sys.modules))]))
"""


def test_a_shipped_policy_runs_without_torch_and_onnx(tmp_path):
    policy = tiny_policy()
    OnnxRuntime().prepare(policy).save(tmp_path / "shipped.policy")
    words = [sys.executable, "-c", CHILD, str(tmp_path / "shipped.policy")]
    child = subprocess.run(words, capture_output=True, text=True, check=True)
    action, imported = json.loads(child.stdout)
    assert imported == []
    np.testing.assert_allclose(action, policy(np.ones(3, np.float32)), atol=1e-5)


def test_a_shipped_policy_survives_its_file(tmp_path):
    shipped = OnnxRuntime().prepare(tiny_policy("integer"))
    shipped.save(tmp_path / "shipped.policy")
    loaded = Policy.load(tmp_path / "shipped.policy")
    functions = OnnxRuntime().load(shipped), OnnxRuntime().load(loaded)
    for observation in states(10):
        assert np.array_equal(functions[0](observation), functions[1](observation))


def graph(inputs=(("x", [None, 3]),), outputs=(("y", [None, 2]),), element=TensorProto.FLOAT):
    """A graph that gives the first numbers of its first input, as many as its output declares."""
    info = helper.make_tensor_value_info
    bounds = [
        helper.make_tensor(n, TensorProto.INT64, [1], [v])
        for n, v in (("a", 0), ("b", outputs[0][1][1]), ("axis", 1))
    ]
    nodes = [helper.make_node("Slice", [inputs[0][0], "a", "b", "axis"], [name]) for name, _ in outputs]
    body = helper.make_graph(
        nodes,
        "g",
        [info(n, element, s) for n, s in inputs],
        [info(n, element, s) for n, s in outputs],
        bounds,
    )
    return helper.make_model(
        body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()


@pytest.mark.parametrize("batch", [None, 1, "N"])
def test_a_foreign_graph_may_name_and_size_its_batch_as_it_likes(batch):
    foreign = graph(inputs=(("obs_0", [batch, 3]),), outputs=(("mu", [batch, 2]),))
    function = OnnxRuntime().load(tiny_policy().with_graph(foreign, "imported"))
    assert np.array_equal(function(np.float32([1, 2, 3])), [1, 2])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"inputs": (("x", [None, 4]),)}, r"one input tensor\(float\) \[batch, 3\]; it has: x .*4"),
        ({"inputs": (("x", [8, 3]),)}, "one input.*8, 3"),
        ({"inputs": (("x", [None, 3]), ("h", [None, 3]))}, "one input.*x .*, h "),
        ({"outputs": (("y", [None, 3]),)}, "one output.*2.*3"),
        ({"outputs": (("y", [None, 2]), ("z", [None, 2]))}, "one output.*y .*, z "),
        ({"inputs": (("x", [None, 3, 1]),), "outputs": (("y", [None, 2, 1]),)}, "one input.*3, 1"),
        ({"element": TensorProto.DOUBLE}, r"one input.*double"),
    ],
)
def test_a_foreign_graph_of_another_signature_is_refused_at_once(changes, told):
    onnx.checker.check_model(graph(**changes))
    with pytest.raises(UsageError, match=told):
        OnnxRuntime().load(tiny_policy().with_graph(graph(**changes), "imported"))


def test_a_damaged_graph_is_refused():
    with pytest.raises(CompressrlError, match="cannot load"):
        OnnxRuntime().load(tiny_policy().with_graph(b"no graph", "imported"))


def test_the_error_of_a_wrong_size_names_both():
    with pytest.raises(UsageError, match=r"\(3,\).*\(17,\)"):
        OnnxRuntime().load(tiny_policy())(np.zeros(17, np.float32))


def test_an_observation_of_another_type_is_converted():
    function = OnnxRuntime().load(tiny_policy())
    assert np.array_equal(function(states(1)[0].astype(np.float64)), function(states(1)[0]))
