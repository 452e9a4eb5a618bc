"""The stack by its kernel against the stack in plain torch."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

from compressrl_algorithms import kernel_stack
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.kernel import _loaded, kernel, why_none
from compressrl_algorithms.kernel_stack import KernelStack
from compressrl_algorithms.mlp_stack import MLPStack

needs_kernel = pytest.mark.skipif(kernel() is None, reason="no C compiler")
SHAPES = [
    ((23, 256, 256, 1), 2),
    ((17, 64, 64, 12), 1),
    ((365, 40, 33), 1),
    ((9, 100, 70, 5), 3),
    ((3, 8, 1), 2),
    ((5, 40, 3), 1),
]
NUMBERS = "float32"
ACTIVATION = "relu"


@pytest.fixture(params=["float32", "bfloat16", "int16"], autouse=True)
def numbers(request, monkeypatch):
    if request.param != "float32" and kernel(request.param) is None:
        pytest.skip(f"this CPU does not multiply in {request.param}")
    monkeypatch.setattr(sys.modules[__name__], "NUMBERS", request.param)


@pytest.fixture(params=["relu", "tanh"])
def activation(request, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ACTIVATION", request.param)


either_activation = pytest.mark.usefixtures("activation")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def both(sizes, count):
    plain = MLPStack(sizes, count, ACTIVATION)
    fast = KernelStack(sizes, count, ACTIVATION, numbers=NUMBERS)
    plain.initialise(generator())
    fast.load_state_dict(plain.state_dict())
    return plain, fast


def inputs(sizes, rows=64):
    x = torch.randn(rows, sizes[0], generator=generator(1))
    return x[:, :-2], x[:, -2:]


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@needs_kernel
@pytest.mark.parametrize(("sizes", "count"), SHAPES)
@pytest.mark.parametrize("rows", [2, 8, 64])
@either_activation
def test_the_kernel_agrees_with_torch(sizes, count, rows):
    results = []
    for one in both(sizes, count):
        outputs = one.learn(*inputs(sizes, rows))
        weights = torch.rand(outputs.shape, generator=generator(2))
        tangent = one.tangent(torch.randn(one.vector.shape, generator=generator(3)))
        learnt = outputs, one(*inputs(sizes, rows)), tangent, one.gradient(weights).clone()
        results.append((*learnt, one.probe(*inputs(sizes, rows)), one.gradient(weights)))
    # A unit that rounding moves over zero also takes its share of the gradient.
    bounds = {
        "float32": [2e-6] * 6,
        "bfloat16": [0.02, 0.02, 0.1, 0.1, 0.02, 0.25],  # it has 8 bits
        "int16": [0.002, 0.002, 0.02, 0.02, 0.002, 0.05],
    }[NUMBERS]
    for expected, found, bound in zip(*results, bounds, strict=True):
        assert found.dtype is torch.float32
        assert relative(found, expected) < bound
    assert NUMBERS == "float32" or not torch.equal(results[0][0], results[1][0])


def whole(shape, seed, low=-2, high=3):
    return torch.randint(low, high, shape, generator=generator(seed)).float()


@needs_kernel
@pytest.mark.parametrize(("sizes", "share"), [((7, 20, 12, 3), 1.0), ((43, 70, 36, 3), 0.2)])
@pytest.mark.parametrize("rows", [6, 14, 40, 98])
def test_the_kernels_gradient_is_exact_where_nothing_is_rounded(sizes, share, rows):
    """Small whole numbers are exact in 16 bits, and so are their products and sums."""
    results = []
    for one in both(sizes, 2):
        there = torch.rand(one.vector.shape, generator=generator()) < share
        one.vector.data.copy_(whole(one.vector.shape, 0) * there)
        x, action, weights = (
            whole((rows, sizes[0] - 3), 1),
            whole((rows, 3), 2),
            whole((2, rows, 3), 3, -1, 2),
        )
        # Rows without any gradient are left out: none, some (an odd number of rows stays), all of a network.
        weights[0, : rows // 2 + 1], weights[1, 1::2] = 0, 0
        results.append([one.learn(x, action), one.gradient(weights).clone()])
        for chosen in (weights, weights[:1], weights * 0):
            results[-1] += [one.probe(x, action, count=len(chosen)), one.gradient(chosen)]
    for expected, found in zip(*results, strict=True):
        assert torch.equal(expected, found)


@needs_kernel
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_numbers_of_any_size_are_multiplied_alike(scale):
    plain, one = both((40, 64, 6), 1)
    x = torch.randn(16, 40, generator=generator(1)) * scale
    weights = torch.rand(1, 16, 6, generator=generator(2)) / scale
    with torch.no_grad():
        for stack in (plain, one):
            for layer in stack.layers():
                layer.bias.zero_()
    assert relative(one.learn(x), plain.learn(x)) < 0.02
    assert relative(one.gradient(weights), plain.gradient(weights)) < 0.1


@needs_kernel
@pytest.mark.parametrize("shared", [True, False], ids=["weights alike", "weights learnt"])
def test_small_inputs_count_beside_large_ones(shared):
    """As angles of joints do beside forces of hundreds, whether or not weights have adapted to them."""
    plain, one = both((120, 64, 6), 2)
    large = torch.arange(120) % 4 == 0
    x = torch.randn(32, 120, generator=generator(1)) * torch.where(large, 200.0, 0.1)
    with torch.no_grad():
        for stack in (plain, one):
            weight = stack.layers()[0].weight
            weight *= torch.where(large, 0.005, 1.0 if shared else 10.0)
    without = torch.where(large, x, 0.0)
    found, expected = one(x) - one(without), plain(x) - plain(without)
    assert relative(found, expected) < 0.05


@needs_kernel
def test_a_vector_of_zeros_gives_zeros():
    """It has no length that integers could be made of; nor has one shorter than 1e-15, beside others."""
    _, one = both((5, 8, 1), 2)
    x = torch.randn(6, 5, generator=generator(1))
    x[2], x[4] = 0, 1e-30
    with torch.no_grad():
        for layer in one.layers():
            layer.bias.zero_()
            layer.weight[..., -1].zero_()
    outputs = one.learn(x)
    assert outputs[:, 2].tolist() == [[0.0], [0.0]]
    assert outputs[:, 4].abs().max() < 1e-15
    assert outputs[:, 3].abs().min() > 0
    assert one.gradient(torch.zeros(2, 6, 1)).abs().max() == 0


@needs_kernel
def test_integers_of_the_longest_vectors_do_not_overflow():
    """All of one number: no sum of products is larger. Opposite ones: nor is one smaller."""
    plain, one = both((6, 700, 1), 1)
    for value in (1.0, -1.0):
        with torch.no_grad():
            for stack in (plain, one):
                stack.vector.fill_(abs(value))
                stack.layers()[0].bias.fill_(5)
        weights = torch.full((1, 2000, 1), value)
        x = torch.full((2000, 6), 0.75)
        for stack in (plain, one):
            stack.learn(x)
        assert relative(one.gradient(weights), plain.gradient(weights)) < 0.01


@needs_kernel
def test_tanh_is_torchs():
    one = KernelStack((1, 1, 1), 1, "tanh", numbers="float32")
    with torch.no_grad():
        for layer in one.layers():
            layer.weight.fill_(1.0)
    x = torch.cat([torch.linspace(-12, 12, 9998), torch.tensor([1e30, -1e30])])
    found = one(x.unsqueeze(1))[0, :, 0].double()
    torch.testing.assert_close(found, x.double().tanh(), rtol=4.1e-7, atol=0)
    assert found[-2:].tolist() == [1, -1]
    assert found.abs().max() == 1


@needs_kernel
def test_a_pass_that_is_retained_can_be_asked_again():
    plain, one = both((5, 8, 1), 1)
    x, direction = torch.randn(4, 5, generator=generator()), torch.randn(57, generator=generator(1))
    for stack in (plain, one):
        outputs = stack.learn(x)
        first, tangent = stack.gradient(outputs, retain=True).clone(), stack.tangent(direction)
        assert torch.equal(stack.tangent(direction), tangent)
        assert torch.equal(stack.gradient(outputs), first)
        for ask, value in ((stack.gradient, outputs), (stack.tangent, direction)):
            with pytest.raises(RuntimeError, match="call learn or probe first"):
                ask(value)
    one.probe(x)
    with pytest.raises(RuntimeError, match="call learn first"):
        one.tangent(direction)


@needs_kernel
def test_inputs_may_be_columns_of_a_table_or_lie_across_it():
    _, one = both((5, 8, 1), 1)
    table = torch.randn(6, 9, generator=generator())
    expected = one(table[:, 2:5].contiguous(), table[:, 6:8].contiguous())
    assert torch.equal(one(table[:, 2:5], table[:, 6:8]), expected)
    assert torch.equal(one(table[:, 2:5].T.contiguous().T, table[:, 6:8]), expected)
    assert torch.equal(one(torch.cat([table[:, 2:5], table[:, 6:8]], dim=1)), expected)


@needs_kernel
@either_activation
def test_one_row_is_evaluated_in_float32():
    for sizes, count in SHAPES:
        plain, one = both(sizes, count)
        row = torch.cat(inputs(sizes, 1), dim=1)
        torch.testing.assert_close(one.act(row), plain(row)[0])
        spread = torch.stack([row, row], dim=2)[:, :, 0]  # not in one piece
        torch.testing.assert_close(one.act(spread), plain(row)[0])
        torch.testing.assert_close(plain.act(row), plain(row)[0])


@needs_kernel
@either_activation
def test_what_is_not_a_number_stays_so_as_in_torch():
    plain, one = both((9, 20, 5), 3)
    x = torch.randn(8, 9, generator=generator(1))
    x[3, 4] = torch.nan
    assert torch.equal(one(x).isnan(), plain(x).isnan())
    assert one(x)[:, 3].isnan().all()
    assert torch.equal(one.act(x[3:4]).isnan(), plain.act(x[3:4]).isnan())


@needs_kernel
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e25])
def test_other_rows_are_as_they_were_beside_one_that_is_no_number_or_huge(value):
    _, one = both((9, 20, 5), 3)
    x, others = torch.randn(8, 9, generator=generator(1)), torch.arange(8) != 3
    expected = one(x)[:, others]
    x[3, 4] = value
    assert relative(one(x)[:, others], expected) < 0.002


@needs_kernel
def test_an_odd_batch_goes_the_plain_way():
    plain, one = both((5, 8, 1), 1)
    x = torch.randn(7, 5, generator=generator())
    torch.testing.assert_close(one(x), plain(x))
    torch.testing.assert_close(one.learn(x), plain.learn(x))
    torch.testing.assert_close(one.gradient(torch.ones(1, 7, 1)), plain.gradient(torch.ones(1, 7, 1)))
    torch.testing.assert_close(one.probe(x), plain.probe(x))
    torch.testing.assert_close(one.gradient(torch.ones(1, 7, 1)), plain.gradient(torch.ones(1, 7, 1)))


@needs_kernel
def test_a_pass_of_another_stack_leaves_what_is_kept_for_the_gradient():
    (_, one), (_, other) = both((5, 32, 32, 1), 2), both((60, 40, 40, 7), 3)
    x, ones = torch.randn(8, 5, generator=generator()), torch.ones(2, 8, 1)
    one.learn(x)
    expected = one.gradient(ones).clone()
    one.learn(x)
    other.learn(torch.randn(30, 60))
    other.gradient(torch.ones(3, 30, 7))
    assert torch.equal(one.gradient(ones), expected)


@needs_kernel
def test_a_copy_is_its_own():
    _, one = both((5, 8, 1), 2)
    x = torch.randn(4, 5, generator=generator())
    before = one.learn(x)
    gradient = one.gradient(torch.ones(2, 4, 1))
    other = copy.deepcopy(one)
    with torch.no_grad():
        other.vector.zero_()
    assert torch.equal(other.learn(x), torch.zeros(2, 4, 1))
    assert other.gradient(torch.ones(2, 4, 1)).data_ptr() != gradient.data_ptr()
    assert torch.equal(one(x), before)


@pytest.fixture
def not_loaded():
    """As if nothing had asked for a kernel yet."""

    def forget():
        kernel.cache_clear()
        _loaded.cache_clear()

    forget()
    yield
    forget()


def test_without_a_compiler_it_is_plain_torch_and_says_so_once(monkeypatch, tmp_path, not_loaded, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert kernel() is None
    for _ in range(2):
        assert type(kernel_stack.make((5, 8, 1), 1, numbers=NUMBERS)) is MLPStack
    [record] = caplog.records
    assert record.getMessage() == (
        "warning: torch makes the updates, and takes several times as long: No C compiler (cc, gcc, clang). "
        "Install gcc or clang, or set CC."
    )


def test_a_compiler_that_fails_is_told_in_its_own_words(monkeypatch, tmp_path, not_loaded, caplog):
    monkeypatch.setenv("CC", "cc --no-such-option")
    monkeypatch.setenv("COMPRESSRL_CACHE", str(tmp_path))
    assert "no-such-option" in why_none(NUMBERS)
    assert bool(caplog.records) == (NUMBERS == "float32"), "the others may be missed without harm"
    assert kernel() is None
    assert "no-such-option" in caplog.text


def test_a_cache_that_cannot_be_written_is_told(monkeypatch, tmp_path, not_loaded):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COMPRESSRL_CACHE", str(tmp_path / "file"))
    assert why_none(NUMBERS).endswith("Choose another COMPRESSRL_CACHE.")


def test_numbers_that_the_kernel_cannot_multiply_become_float32(monkeypatch):
    library = kernel()
    if library is None:
        pytest.skip("no C compiler")
    monkeypatch.setattr(kernel_stack, "kernel", lambda numbers: library if numbers == "float32" else None)
    assert kernel_stack.make((5, 8, 1), 1, numbers=NUMBERS).numbers == "float32"


@needs_kernel
@pytest.mark.parametrize(
    ("sizes", "count"), [((23, 256, 256, 1), 2), ((9, 40, 1), 3), ((5, 8, 24, 40, 1), 1)]
)
def test_steps_in_one_call_are_the_steps_one_by_one(sizes, count):
    """Bit for bit: a regression, a value's gradient and a descent of KernelStack and of its parts."""
    _, fused = both(sizes, count)
    parts = copy.deepcopy(fused)
    x, action = inputs(sizes, 32)
    targets = torch.randn(3, 32, generator=generator(2))
    optimizers = [Adam([one.vector], lr=0.01) for one in (fused, parts)]
    for target in targets:
        loss = fused.regress(target, x, action, optimizer=optimizers[0])
        expected = MLPStack.regress(parts, target, x, action, optimizer=optimizers[1])
        assert loss == expected
        assert torch.equal(fused.vector, parts.vector)
    for used in (None, 1):
        for found, wanted in zip(
            fused.value_loss(x, action, count=used),
            MLPStack.value_loss(parts, x, action, count=used),
            strict=True,
        ):
            assert torch.equal(torch.as_tensor(found), torch.as_tensor(wanted))
    before = fused.vector.clone()
    for one, optimizer, descend in zip(
        (fused, parts), optimizers, (KernelStack.descend, MLPStack.descend), strict=True
    ):
        descend(one, 2 * one.learn(x, action), optimizer)
    assert torch.equal(fused.vector, parts.vector)
    assert not torch.equal(fused.vector, before)


@needs_kernel
def test_a_pass_that_keeps_nothing_gives_the_same_and_leaves_what_was_kept():
    for sizes, count in SHAPES:
        _, one = both(sizes, count)
        expected = one.learn(*inputs(sizes))
        gradient = one.gradient(expected).clone()
        one.learn(*inputs(sizes))
        assert torch.equal(one(*inputs(sizes)), expected)
        one(*(10 * part for part in inputs(sizes)))
        assert torch.equal(one.gradient(expected), gradient)


@needs_kernel
@pytest.mark.parametrize("call", ["descend", "regress", "value_loss", "gradient"])
def test_a_pass_that_is_spent_gives_no_gradient(call):
    """A later one would be of weights that have moved, or of a pass that nobody asked to keep."""
    _, one = both((5, 8, 1), 2)
    x, action = inputs((5, 8, 1), 4)
    optimizer = Adam([one.vector], lr=0.01)
    outputs = one.learn(x, action)
    if call == "descend":
        one.descend(outputs, optimizer)
    elif call == "regress":
        one.regress(outputs[0, :, 0], x, action, optimizer=optimizer)
    elif call == "gradient":
        one.gradient(outputs)
    else:
        one.value_loss(x, action)
    with pytest.raises(RuntimeError, match="call learn or probe first"):
        one.gradient(outputs)


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
    for numbers in ("float32", "bfloat16", "int16"):
        library = kernel(numbers)
        if library is not None:
            library.use_threads(1)


@needs_kernel
@pytest.mark.parametrize(("sizes", "count"), SHAPES)
@either_activation
def test_any_number_of_threads_computes_the_same(torch_threads, sizes, count):
    results = []
    for threads in (1, 2, 3):
        torch_threads(threads)
        one = kernel_stack.make(sizes, count, numbers=NUMBERS, activation=ACTIVATION)
        one.initialise(generator())
        optimizer = Adam([one.vector], lr=0.01)
        outputs = one.learn(*inputs(sizes))
        tangent = one.tangent(one.vector.detach())
        one.descend(outputs, optimizer)
        probed = one.probe(*inputs(sizes))
        found = [outputs, tangent, one.vector.detach().clone(), probed, one.gradient(probed)]
        if sizes[-1] == 1:
            found.append(torch.tensor(one.regress(outputs[0, :, 0], *inputs(sizes), optimizer=optimizer)))
            loss, gradient = one.value_loss(*inputs(sizes))
            found += [one.vector.detach().clone(), torch.tensor(loss), gradient]
        results.append(found)
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2])
def test_a_pass_has_as_many_threads_as_torch(threads):
    program = f"""
import time, torch
from compressrl_algorithms import kernel_stack
torch.set_num_threads({threads})
one = kernel_stack.make((9, 200, 200, 1), 1, numbers="{NUMBERS}")
x = torch.ones(512, 9)
begun = time.process_time(), time.thread_time()
while time.process_time() < begun[0] + 0.5:
    one(x)
print(time.process_time() - begun[0] - (time.thread_time() - begun[1]))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (float(run.stdout) > 0.05) == (threads > 1)  # seconds of other threads


@needs_kernel
def test_a_compiler_without_openmp_makes_a_kernel_of_one_thread(monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec /usr/bin/env cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("COMPRESSRL_CACHE", str(tmp_path / "cache"))
    kernel.cache_clear()
    try:
        _, one = both((5, 40, 3), 1)
        kernel(NUMBERS).use_threads(2)
        found = one(torch.ones(2, 5))
    finally:
        kernel.cache_clear()
    assert torch.equal(found, both((5, 40, 3), 1)[1](torch.ones(2, 5)))
