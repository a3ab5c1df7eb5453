"""Jobs: stored, killed, resumed and shared among workers, always the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Run, methods, players


def small_net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 3),
    ).eval()


X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))

METHODS = [
    methods.integrated_gradients(),
    methods.smooth_grad(samples=40),
    methods.expected_gradients(X[:3], samples=30),
    methods.feature_ablation("uniform"),
    methods.permutation_shapley(400),
    methods.permutation_shapley(2000, tolerance=2e-3),
    methods.kernel_shap(1500),
    methods.regression_shapley(300),
]


def explained(method, run=None, **options):
    return pellucid.explain(small_net(), X, method, players=players.grid(4), seed=3, run=run, **options)


def same(a, b) -> bool:
    equal = np.array_equal(a.values, b.values) and np.array_equal(a.outputs, b.outputs)
    return equal and (a.std_error is None or np.array_equal(a.std_error, b.std_error, equal_nan=True))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_stored_resumed_and_shared_runs_give_the_same_bits(method, tmp_path):
    plain = explained(method, Run(batch_size=64))
    stored = explained(method, Run(batch_size=64, store=tmp_path))
    chunks = sorted(tmp_path.rglob("*.npz"))
    assert chunks
    chunks[0].unlink()
    chunks[-1].write_bytes(b"cut short")
    resumed = explained(method, Run(batch_size=64, store=tmp_path))
    shared = explained(method, Run(batch_size=64, workers=2))
    assert same(plain, stored)
    assert stored.cost["forwards"] == plain.cost["forwards"]
    assert same(plain, resumed)
    assert same(plain, shared)


def test_a_resumed_run_does_not_compute_again(tmp_path):
    calls = []

    def model(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return torch.stack([x.sum((1, 2, 3)), x.square().sum((1, 2, 3))], 1)

    first = pellucid.explain(model, X, methods.kernel_shap(300), players=players.grid(4), run=Run(store=tmp_path))
    there, before = len(calls), sum(calls)
    second = pellucid.explain(model, X, methods.kernel_shap(300), players=players.grid(4), run=Run(store=tmp_path))
    assert same(first, second)
    assert sum(calls[there:]) < before / 10  # the rows themselves, to know that the model is the same


def test_another_seed_weight_or_input_is_another_job(tmp_path):
    run = Run(store=tmp_path)
    method = methods.smooth_grad(samples=4)
    net = small_net()
    pellucid.explain(net, X, method, target=0, run=run)
    pellucid.explain(net, X, method, target=0, seed=1, run=run)
    pellucid.explain(net, X + 0.01, method, target=0, run=run)
    with torch.no_grad():
        net[4].bias.add_(1)  # the gradient is the same, the model is not
    pellucid.explain(net, X, method, target=0, run=run)
    pellucid.explain(net, X, methods.smooth_grad(samples=5), target=0, run=run)
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(folders) == 5
    assert all(json.loads((folder / "spec.json").read_text())["method"]["name"] == "smooth_grad" for folder in folders)


def test_resume_can_be_refused(tmp_path):
    method = methods.smooth_grad(samples=4)
    explained(method, Run(store=tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    time.sleep(0.01)
    explained(method, Run(store=tmp_path, resume=False))
    assert all(path.stat().st_mtime_ns > moment for path, moment in before.items())


def test_a_store_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="store"):
        explained(METHODS[0], Run(store=tmp_path / "file"))


def test_an_error_in_a_worker_reaches_the_caller():
    parent = os.getpid()

    def fails_in_workers(x: torch.Tensor) -> torch.Tensor:
        if os.getpid() != parent:
            raise ValueError("lost the licence")
        return x.sum((1, 2, 3))

    with pytest.raises(Exception, match="lost the licence"):
        pellucid.explain(
            fails_in_workers, X, methods.permutation_shapley(6000), players=pellucid.players.grid(5), run=Run(workers=2)
        )


def test_a_single_share_is_done_here():
    """A row with a tolerance cannot be shared out: no process is forked for it."""
    seen = []

    def remembers(x: torch.Tensor) -> torch.Tensor:
        seen.append(os.getpid())
        return x.sum((1, 2, 3))

    method = methods.permutation_shapley(6000, tolerance=0.1)
    pellucid.explain(remembers, X[:1], method, players=pellucid.players.grid(5), run=Run(workers=2))
    assert set(seen) == {os.getpid()}
    assert len(seen) > 3


JOB = """
import sys, torch, pellucid
torch.set_num_threads(1)
sys.path.insert(0, {folder!r})
from test_run import small_net, X
e = pellucid.explain(small_net(), X, pellucid.methods.permutation_shapley(6000), players=pellucid.players.grid(5),
seed=3,
                     run=pellucid.Run(store={store!r}, batch_size=64))
e.save({out!r})
"""


def killed_often(tmp_path: Path, kills: int) -> None:
    """Kill the job at random moments; whatever was left behind, the next run goes on and the end is the same."""
    out, store = tmp_path / "e.npz", tmp_path / "store"
    script = JOB.format(folder=str(Path(__file__).parent), store=str(store), out=str(out))
    source = str(Path(pellucid.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    moments = random.Random(0)
    died = 0
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        before = sum(1 for _ in store.rglob("*.npz"))
        while process.poll() is None and time.monotonic() < deadline:
            if sum(1 for _ in store.rglob("*.npz")) > before:  # it works: now at any moment
                time.sleep(moments.random() * 0.05)
                break
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            died += 1
        process.wait()
        if out.exists():
            break
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert died >= min(kills, 2)
    whole = pellucid.explain(
        small_net(), X, methods.permutation_shapley(6000), players=players.grid(5), seed=3, run=Run(batch_size=64)
    )
    assert same(whole, pellucid.load(out))
    assert not list(store.rglob("*.part"))


def test_a_job_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    killed_often(tmp_path, 3)


@pytest.mark.slow
def test_a_job_killed_fifty_times_ends_with_the_same_bits(tmp_path):
    killed_often(tmp_path, 50)
