"""generative.fit: one seeded loop that resumes, stops early and records."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from pellucid import Run, generative
from pellucid.generative.learner import Learner
from tests.reference.learners import JOINT, PICTURES, SMALL, same


@pytest.mark.parametrize("recipe", [SMALL, JOINT], ids=["beta_tcvae", "joint_vae"])
def test_fit_is_a_function_of_its_seed_and_leaves_global_states_alone(recipe):
    before, numbers = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with torch.no_grad():
        fitted = [generative.fit(recipe, PICTURES, steps=7, every=3, seed=seed) for seed in (5, 5, 6)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(numbers, np.random.get_state()[1])  # noqa: NPY002
    assert same(fitted[0].model, fitted[1].model)
    assert not same(fitted[0].model, fitted[2].model)
    assert fitted[0].losses.equals(fitted[1].losses)
    assert not fitted[0].model.training
    losses = fitted[0].losses
    assert list(losses.index) == list(range(1, 8))
    assert losses.notna().all(axis=None)
    assert fitted[0].steps == fitted[0].kept == 7
    assert fitted[0].seconds > 0


class Killed(Exception):
    """What stands for a kill."""


@pytest.mark.parametrize("patience", [None, 3])
def test_a_killed_fit_goes_on_with_the_same_bits(tmp_path, monkeypatch, patience):
    def train(store=None, progress=None, resume=True):
        run = Run(store=store, progress=progress, resume=resume)
        held_out = PICTURES[:20]
        return generative.fit(
            SMALL, PICTURES[20:], steps=11, every=4, held_out=held_out, patience=patience, seed=2, run=run
        )

    once, seen = train(), []
    whole_losses = generative.VAE.losses

    def dying(self, part, x, y, step):
        if step.index == 6 and step.stream == "generative.fit":
            raise Killed
        return whole_losses(self, part, x, y, step)

    monkeypatch.setattr(generative.VAE, "losses", dying)
    with pytest.raises(Killed):
        train(tmp_path)
    monkeypatch.setattr(generative.VAE, "losses", whole_losses)
    again = train(tmp_path, lambda what, done, total: seen.append((what, done, total)))
    assert seen == [("training beta_tcvae", 8, 11), ("training beta_tcvae", 11, 11)]  # step 4 was kept
    assert same(once.model, again.model)
    assert once.losses.equals(again.losses)
    assert once.losses["held_out"].notna().tolist() == [step in (4, 8, 11) for step in range(1, 12)]
    assert once.spec == again.spec
    seen.clear()
    read = train(tmp_path, lambda *done: seen.append(done))
    assert seen == []
    assert same(once.model, read.model)
    assert read.seconds == again.seconds
    (file,) = tmp_path.glob("*/checkpoint.npz")
    file.write_bytes(file.read_bytes()[:-100])  # a damaged checkpoint is made again
    assert same(once.model, train(tmp_path).model)
    train(tmp_path, lambda *done: seen.append(done), resume=False)
    assert len(seen) == 3


class Slide(Learner):
    """One weight that slides from 0 to 1; the held-out rows like it best at .5."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.other = nn.Parameter(torch.zeros(()))

    def parts(self):
        return {"slide": [self.weight], "idle": [self.other]}

    def turn(self, index):
        return "slide" if index % 2 == 0 else "idle"

    def losses(self, part, x, y, step):
        if part == "idle":
            return {"loss": self.other**2, "idle": self.other + 1}
        return {"loss": (self.weight - 1).abs() + 0 * x.mean()}

    def score(self, x, y, step):
        return (self.weight - 0.5) ** 2


@dataclass(frozen=True)
class Sliding:
    """Its settings."""

    rate: float = 0.05
    decay: float = 0.0
    batch: int = 4
    name: str = "slide"
    betas: tuple[float, float] = (0.0, 0.0)

    def build(self, seed):
        return Slide()


def test_training_stops_early_and_returns_the_best_weights():
    fitted = generative.fit(Sliding(), PICTURES, steps=100, every=2, held_out=PICTURES[:5], patience=3)
    assert fitted.kept == 20  # ten moves of .05
    assert fitted.steps == 26
    assert fitted.model.weight.item() == pytest.approx(0.5, abs=1e-4)
    held_out = fitted.losses["held_out"].dropna()
    assert held_out.idxmin() == 20
    assert len(held_out) == 13
    assert fitted.losses["idle"].notna().tolist() == [False, True] * 13  # parts take turns
    assert fitted.model.other.item() == 0
    whole = generative.fit(Sliding(), PICTURES, steps=26, every=2, held_out=PICTURES[:5])
    assert whole.kept == 26
    assert whole.model.weight.item() == pytest.approx(0.65, abs=1e-4)


def test_the_rate_falls_to_nothing_over_the_last_steps():
    """A slide moves by the rate: in the first 24 of 40 steps the whole of it, then a sixteenth less each step."""
    fitted = generative.fit(Sliding(decay=0.4), PICTURES, steps=40)
    falling = [(40 - index) / 16 for index in range(24, 40)]
    assert fitted.model.weight.item() == pytest.approx(0.05 * (12 + sum(falling[::2])), abs=1e-4)
    before = generative.fit(Sliding(), PICTURES, steps=24)
    assert fitted.losses["loss"][:24].equals(before.losses["loss"])


def test_every_row_is_seen_once_in_each_pass_and_bytes_count_as_255ths():
    rows = torch.arange(13).to(torch.uint8).reshape(13, 1).repeat(1, 2)
    seen = []

    class Looking(Slide):
        def losses(self, part, x, y, step):
            seen.append((x * 255).round().long()[:, 0].tolist())
            return super().losses("slide", x, y, step)

    class Recipe(Sliding):
        def build(self, seed):
            return Looking()

    generative.fit(Recipe(), rows, steps=6, seed=4)
    first, second = (sorted(itertools.chain(*seen[i : i + 3])) for i in (0, 3))
    assert len(set(first)) == len(set(second)) == 12  # the row that is left over changes from pass to pass
    assert seen[:3] != seen[3:]
