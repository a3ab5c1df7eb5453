"""The executor: how much a model call carries, and what happens when memory runs out."""

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Run, methods
from pellucid.core.budget import Executor, batch_rows, out_of_memory

# What torch raises on a CPU: a plain RuntimeError.
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")


def tight(most, error):
    """A smooth function whose calls do not fit when they have more than ``most`` rows; it notes the calls that did."""
    calls = []

    def function(x):
        if len(x) > most:
            raise error
        calls.append(len(x))
        return torch.stack([x.sin().sum(1), x.cos().prod(1)], 1)

    return function, calls


ERRORS = {"cpu": CPU, "python": MemoryError(), "cuda": torch.OutOfMemoryError("CUDA out of memory")}


METHODS = {
    "integrated_gradients": methods.integrated_gradients(steps=24),
    "smooth_grad": methods.smooth_grad(samples=24),
    "expected_gradients": methods.expected_gradients(torch.linspace(0, 1, 30).reshape(10, 3).double(), 30),
    "feature_ablation": methods.feature_ablation(),
    "permutation_shapley": methods.permutation_shapley(budget=200),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_call_that_does_not_fit_is_halved(error, method):
    """The work is cut into chunks before memory runs out, and the numbers are those of the cut as it was."""
    x = torch.rand(20, 3, dtype=torch.float64)
    free, _ = tight(10**9, error)
    small, calls = tight(5, error)
    expected = pellucid.explain(free, x, method, target=1)
    e = pellucid.explain(small, x, method, target=1, run=Run(batch_size=64))
    np.testing.assert_allclose(e.values, expected.values, rtol=0, atol=1e-12)
    assert e.cost["batch_size"] == max(calls) == 4
    assert expected.cost["batch_size"] > 20
    assert e.std_error is None or np.allclose(e.std_error, expected.std_error, rtol=0, atol=1e-12)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_one_row_that_does_not_fit_is_the_end(error):
    function, _ = tight(0, error)
    with pytest.raises(type(error)) as caught:
        pellucid.explain(function, torch.rand(4, 3), methods.saliency(), target=0)
    assert caught.value is error


def test_a_backward_pass_that_does_not_fit_is_halved_too():
    class Tight(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            if len(grad) > 2:
                raise CPU
            return grad

    x = torch.rand(8, 3)
    e = pellucid.explain(lambda x: Tight.apply(x).prod(1), x, methods.saliency(), target=0)
    assert e.cost["batch_size"] == 2
    np.testing.assert_allclose(e.values, x.prod(1, keepdim=True) / x, rtol=1e-6)


def test_other_errors_do_not_shrink_the_call():
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("can't allocate memory"))
    calls = []

    def wrong(x):
        calls.append(len(x))
        raise RuntimeError("no")

    with pytest.raises(BadInput):
        pellucid.explain(wrong, torch.rand(8, 3), methods.saliency(), target=0)
    assert calls == [1]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_item_is_worked_on_once_in_order(count, batch_size):
    executor = Executor(batch_size)
    parts = executor.map(lambda part: list(range(count))[part], count)
    assert [item for part in parts for item in part] == list(range(count))
    assert all(len(part) <= batch_size for part in parts)
    assert [list(range(count))[part] for part in executor.slices(count)] == parts


def test_the_size_of_a_call_falls_with_the_size_of_a_row():
    sizes = [batch_rows(entries, Run()) for entries in (1, 30, 784, 3 * 32 * 32, 3 * 224 * 224, 10**8)]
    assert sizes == [8192, 4096, 128, 64, 4, 1]


def test_a_run_may_say_or_limit_the_size_of_a_call():
    assert batch_rows(784, Run(batch_size=7)) == 7
    assert batch_rows(784, Run(memory=10)) == 1
    limited = batch_rows(784, Run(memory=2**20))
    assert limited == 2  # of 512 bytes an entry
    assert batch_rows(784, Run(memory=2**40)) == batch_rows(784, Run())


@pytest.mark.parametrize("name", ["workers", "batch_size", "memory"])
@pytest.mark.parametrize("number", [0, -1, 1.5, True, "4"])
def test_a_run_takes_positive_whole_numbers(name, number):
    with pytest.raises(BadInput, match=rf"Run: {name} must be a positive whole number, got {number!r}"):
        Run(**{name: number})


def test_a_memory_limit_lowers_the_peak():
    """A limit of 16 MB keeps the calls of a wide net far under what they take without it."""
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(32 * 60 * 60, 2))
    x = torch.rand(64, 3, 64, 64)
    free, limited = (
        pellucid.explain(net.eval(), x, methods.saliency(), target=0, run=Run(memory=memory, batch_size=None))
        for memory in (None, 2**24)
    )
    assert limited.cost["batch_size"] == 2 < free.cost["batch_size"]
    np.testing.assert_allclose(limited.values, free.values, rtol=0, atol=1e-7)


def test_progress_is_told_after_each_chunk():
    told = []
    run = Run(batch_size=4, progress=lambda *news: told.append(news))
    pellucid.explain(lambda x: x.sin().sum(1), torch.rand(6, 3), methods.integrated_gradients(steps=8), run=run)
    assert [done for _, done, _ in told] == list(range(1, len(told) + 1))
    assert {(what, total) for what, _, total in told} == {("integrated_gradients", len(told))}
    assert len(told) == 8 + 4  # four rows take a chunk a step; the last two fit two steps in each


def test_costs_are_counted():
    x, method = torch.rand(6, 3), methods.integrated_gradients(steps=8)
    e = pellucid.explain(lambda x: x.sin().sum(1), x, method, target=0)
    # Six rows of eight steps; one row to see how many outputs there are, and f at x and at the baseline.
    assert e.cost["backwards"] == 48
    assert e.cost["forwards"] == 48 + 1 + 6 + 6
    assert e.cost["seconds"] > 0
    assert e.cost["peak_bytes"] >= 0
    slope = pellucid.explain(lambda x: x.sin().sum(1), x, methods.saliency(), target=0)
    assert (slope.cost["forwards"], slope.cost["backwards"]) == (6 + 1, 6)
