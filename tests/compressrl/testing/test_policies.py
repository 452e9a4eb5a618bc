import numpy as np
import pytest

from compressrl.errors import PipelineError
from compressrl.testing import checks, tiny_policy
from compressrl.testing.policies import FORMS, states


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_a_policy_that_acts_within_its_bounds(form):
    policy = tiny_policy(form)
    assert policy.form == ("network" if form == "foreign" else form)
    checks.assert_acts_within_bounds(policy, states())
    assert checks.actions(policy, states()).std(axis=0).min() > 0.05


def test_integer_and_graph_do_what_the_network_does():
    float_actions = checks.actions(tiny_policy(), states())
    np.testing.assert_allclose(checks.actions(tiny_policy("graph"), states()), float_actions, atol=1e-5)
    integer_error = np.abs(checks.actions(tiny_policy("integer"), states()) - float_actions)
    assert 0 < integer_error.max() < 0.1


def test_the_foreign_network_is_of_a_type_that_no_file_describes():
    policy = tiny_policy("foreign")
    assert policy.layers is None
    assert policy.foreign is not None


def test_quantized_forms_have_no_float_network():
    for form in ("integer", "graph"):
        with pytest.raises(PipelineError):
            _ = tiny_policy(form).network


def test_seed_widths_and_activation_are_as_asked():
    assert tiny_policy(seed=1).to_bytes() == tiny_policy(seed=1).to_bytes() != tiny_policy(seed=2).to_bytes()
    policy = tiny_policy(hidden=(5, 7, 9), activation="silu")
    assert [layer.weight.shape for layer in policy.layers if layer.kind == "linear"] == [
        (5, 3),
        (7, 5),
        (9, 7),
        (2, 9),
    ]
    assert [layer.name for layer in policy.layers if layer.kind == "activation"] == ["silu"] * 3 + ["tanh"]
