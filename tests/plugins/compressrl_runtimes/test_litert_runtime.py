import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from compressrl import pipeline, plugins, sources
from compressrl.errors import UsageError
from compressrl.lab import Lab
from compressrl.measuring import doctor
from compressrl.networks import layers
from compressrl.testing import RuntimeContract, tiny_policy
from compressrl.testing.policies import states
from compressrl_runtimes.litert_runtime import LitertRuntime

INSTALL = "pip install 'compressrl[litert]'"
installed = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason=f"LiteRT is not installed: {INSTALL}"
)


@installed
class TestLitertRuntime(RuntimeContract):
    plugin = LitertRuntime
    forms = ("network", "integer")


@pytest.fixture
def _without_litert(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.delitem(sys.modules, "compressrl_runtimes.tflite_graph", raising=False)
    if "compressrl_runtimes" in sys.modules:
        monkeypatch.delattr(sys.modules["compressrl_runtimes"], "tflite_graph", raising=False)


@pytest.mark.usefixtures("_without_litert")
def test_where_litert_is_missing_the_runtime_says_how_to_get_it(tmp_path):
    for attempt in (LitertRuntime().load, lambda policy: LitertRuntime().deploy(policy, tmp_path)):
        with pytest.raises(UsageError) as raised:
            attempt(tiny_policy())
        assert str(raised.value) == f"The litert runtime needs LiteRT: {INSTALL}."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_without_litert")
def test_where_litert_is_missing_the_doctor_calls_nothing_broken():
    (finding,) = doctor._examine_runtime(plugins.registry().get("runtime", "litert")).findings
    assert (finding.usable, finding.remedy) == (False, "")
    assert finding.why == f"The litert runtime needs LiteRT: {INSTALL}."


@installed
@pytest.mark.parametrize("form", ["graph", "foreign"])
def test_what_has_no_tflite_form_is_sent_to_onnx(form):
    with pytest.raises(UsageError, match=r"The litert runtime cannot.*no TFLite form.*--runtime onnx"):
        LitertRuntime().load(tiny_policy(form))


@installed
@pytest.mark.parametrize("activation", layers.ACTIVATIONS)
@pytest.mark.parametrize("form", ["network", "integer"])
def test_every_activation_agrees(form, activation):
    policy = tiny_policy(form, activation=activation)
    function, observations = LitertRuntime().load(policy), states(1000)
    difference = np.stack([function(observation) for observation in observations]) - policy(observations)
    # Float rounding moves a level now and then, and a saturated tanh lies just between two.
    assert (np.abs(difference) < 2e-6).mean() > (0.95 if form == "integer" else 0.9999)
    assert np.abs(difference).max() < 0.03


@installed
def test_nothing_is_written_on_stderr_and_it_is_open_afterwards():
    """In a process of its own: LiteRT speaks once a process."""
    code = (
        "import sys; from compressrl.testing import tiny_policy\n"
        "from compressrl_runtimes.litert_runtime import LitertRuntime\n"
        "LitertRuntime().load(tiny_policy()); sys.stderr.write('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "still here"


@installed
def test_every_kind_of_layer_agrees_in_any_place():
    row = (
        layers.Activation("relu"),
        layers.Clip(np.full(3, 0.1), np.full(3, 0.4)),
        layers.Rescale(np.float32([1, 2, 3]), np.float32([3, 2, 1])),
        layers.Standardize(np.ones(3), np.full(3, 0.5), 2.0),
        layers.Linear(np.float32([[1, 2, 3], [3, -2, 1]]), np.ones(2)),
        layers.Activation("relu"),
        layers.Activation("relu"),
    )
    policy = replace(tiny_policy(), layers=row)
    function = LitertRuntime().load(policy)
    for observation in states(100):
        np.testing.assert_allclose(function(observation), policy(observation), rtol=1e-6, atol=1e-6)


def operators(policy):
    """(operator, type of its output, activation within it) in order, as written."""
    from ai_edge_litert import schema_py_generated as schema

    from compressrl_runtimes import tflite_graph

    model = schema.ModelT.InitFromPackedBuf(tflite_graph.write(policy))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    (graph,) = model.subgraphs
    found = []
    for operator in graph.operators:
        fused = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
        kind = graph.tensors[operator.outputs[0]].type
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        found.append((names[code], "int8" if kind == schema.TensorType.INT8 else "float", bool(fused)))
    return found


@installed
def test_hidden_relu_layers_are_int8_from_end_to_end():
    standardized = [("SUB", "float", False), ("DIV", "float", False)]
    clipped = [("MAXIMUM", "float", False), ("MINIMUM", "float", False)]
    last = [("FULLY_CONNECTED", "float", False), ("TANH", "float", False)]
    rescaled = [("MUL", "float", False), ("ADD", "float", False)]
    hidden = [("FULLY_CONNECTED", "int8", True)] * 2
    assert operators(tiny_policy("integer")) == [
        *(*standardized, *clipped, ("QUANTIZE", "int8", False)),
        *(*hidden, ("DEQUANTIZE", "float", False), *last, *rescaled),
    ]


@installed
def test_hidden_tanh_layers_are_float_on_quantized_levels():
    found = [name for name, _, _ in operators(tiny_policy("integer", activation="tanh"))]
    layer = ["QUANTIZE", "DEQUANTIZE", "FULLY_CONNECTED", "TANH"]
    assert found[4:-2] == layer * 3


@installed
def test_a_relu_becomes_part_of_the_float_layer_before_it():
    found = operators(tiny_policy())
    assert found.count(("FULLY_CONNECTED", "float", True)) == 2
    assert "RELU" not in [name for name, _, _ in found]


@installed
@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
@pytest.mark.parametrize("compressor", ["", "ptsq"])
def test_it_agrees_with_the_reference_on_thousands_of_visited_states(algorithm, compressor):
    """Float rounding differs; it moves a level of a hidden unit in one state of a thousand or so."""
    policy = sources.find_policy(algorithm, "HalfCheetah-v5", "")
    if compressor:
        policy = pipeline.compress(policy, compressor)
    function = LitertRuntime().load(policy)
    visited = Lab(policy.env_id).collect(policy, 3000)
    difference = np.abs(np.stack([function(state) for state in visited]) - policy(visited)).max(axis=1)
    assert (difference < 1e-5).mean() >= (0.99 if compressor else 1)
    assert difference.max() < 1e-2
