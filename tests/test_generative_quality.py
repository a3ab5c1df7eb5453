"""How good trained models are: reconstruction, disentanglement, flips and DCI, against controls; and bad input."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pellucid import BadInput, Unsupported, generative
from pellucid.generative import latents
from tests.reference.learners import JOINT, NAMED, PICTURES, SMALL, bars


def test_the_information_gap_of_known_codes():
    grid = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0))
    gap = generative.mutual_information_gap
    assert gap(grid, grid) == pytest.approx(1)
    assert gap(torch.stack([-(grid[:, 1] ** 3), grid[:, 0]], 1), grid) == pytest.approx(1)  # order and monotone maps
    turn = torch.tensor([[1.0, 1], [1, -1]])
    assert gap(grid @ turn, grid) == pytest.approx(0, abs=1e-6)
    assert gap(torch.cat([grid, grid[:, :1]], 1), grid) == pytest.approx(0.5)  # the first factor has two codes
    assert gap(torch.stack([grid[:, 0], 0 * grid[:, 0]], 1), grid) == pytest.approx(0.5)  # the second has none
    half = torch.stack([grid[:, 0] // 3, grid[:, 1]], 1)  # log 2 of log 6 of the first factor
    assert gap(half, grid) == pytest.approx((1 + math.log(2) / math.log(6)) / 2)
    fine = torch.rand(5000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert gap(fine, fine, bins=10) > 0.97  # what 5,000 rows fake between independent ones is small
    turns = (torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]).double() for a in (0.2, 0.5))
    less = [gap(fine @ turn, fine) for turn in turns]
    assert 0.9 > less[0] > less[1]


class Codec:
    """A model that is known to be good, or bad."""

    def __init__(self, codes=None, back=None):
        self.codes, self.reconstruct = codes, back


def test_quality_stands_beside_its_control():
    x, factors = bars(600)
    mean = x.mean(0)
    exact = generative.reconstruction(Codec(back=lambda x: x), x)
    assert (exact.error, exact.explained, exact.passes) == (0, 1, True)
    trivial = generative.reconstruction(Codec(back=lambda x: mean.expand_as(x)), x)
    assert trivial.error == pytest.approx(trivial.control)
    assert trivial.control == pytest.approx(float(x.var(0, unbiased=False).mean()), rel=1e-5)
    assert not trivial.passes
    places = {row.numpy().tobytes(): factor for row, factor in zip(x, factors, strict=True)}
    known = Codec(codes=lambda x: torch.stack([places[row.numpy().tobytes()] for row in x]))
    good = generative.disentanglement(known, x, factors, ["place", "light"], bins=6)
    assert good.mig > 0.9
    assert set(good.gaps) == {"place", "light"}
    assert good.passes
    assert good.chance < 0.1
    poor = generative.disentanglement(Codec(codes=lambda x: x[:, 0, :2, 3]), x, factors, bins=6)
    assert poor.mig == 0
    assert not poor.passes


ATTRIBUTES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3))).repeat(25, 1)
FACES = torch.zeros(200, 1, 2, 2)
FACES.view(200, 4)[:, :3] = ATTRIBUTES


def read_faces(x):
    return x.reshape(-1, 4)[:, :3]


def translated(x, difference, leak=0.0, gain=1.0):
    made = x.clone().reshape(-1, 4)
    made[:, :3] += gain * difference
    made[:, 1] += leak * difference[:, 0]
    return made.reshape(x.shape)


def test_flips_pass_a_translator_that_is_exact_and_no_other():
    names = ["hair", "hat", "smile"]
    exact = generative.flips(translated, read_faces, FACES, names)
    assert torch.equal(exact.matrix, torch.eye(3, dtype=torch.float64))
    assert exact.passes
    assert exact.reasons == ()
    assert torch.equal(exact.control, torch.zeros(3))
    assert exact.accuracy == dict.fromkeys(names, 1.0)
    assert list(exact.table.index) == [*names, "none"]
    leaky = generative.flips(lambda x, d: translated(x, d, leak=1.0), read_faces, FACES, names)
    assert float(leaky.matrix[0, 1]) == 0.5  # hair takes the hat along where both change the same way
    assert not leaky.passes
    assert leaky.reasons == ("asked to change 'hair', it changes 'hat' in 50% (allowed 10%)",)
    idle = generative.flips(lambda x, d: x, read_faces, FACES, names)
    assert len(idle.reasons) == 3
    assert not idle.passes
    few = generative.flips(translated, read_faces, FACES[:8], names)
    assert not few.passes  # eight pictures show nothing: exact limits 63 % and 37 %
    assert float(few.low[0, 0]) == pytest.approx(0.025 ** (1 / 8))
    assert float(few.high[0, 1]) == pytest.approx(1 - 0.025 ** (1 / 8))


# ---------------------------------------------------------------- bad input

LABELS = torch.rand(48, 2, generator=torch.Generator().manual_seed(1))
WRONG = {
    "no steps": (lambda: generative.fit(SMALL, PICTURES, steps=0), BadInput, "steps must be"),
    "seed": (lambda: generative.fit(SMALL, PICTURES, seed=-1), BadInput, "seed must be"),
    "patience alone": (lambda: generative.fit(SMALL, PICTURES, patience=2), BadInput, "held_out"),
    "one row": (lambda: generative.fit(SMALL, PICTURES[:1]), BadInput, "two rows"),
    "other size": (lambda: generative.fit(SMALL, torch.zeros(4, 1, 16, 16)), BadInput, r"\(N, 1, 8, 8\)"),
    "out of range": (lambda: generative.fit(SMALL, PICTURES * 3), BadInput, "within 0..1"),
    "NaN": (lambda: generative.fit(SMALL, PICTURES * math.nan), BadInput, "NaN"),
    "no labels": (lambda: generative.fit(NAMED, PICTURES), BadInput, r"labels \(N, 2\)"),
    "labels too many": (lambda: generative.fit(SMALL, PICTURES, LABELS), BadInput, r"got \(N, 2\)"),
    "labels too few": (lambda: generative.fit(NAMED, PICTURES, LABELS[:5]), BadInput, r"\(48, A\)"),
    "constant label": (lambda: generative.fit(NAMED, PICTURES, 0 * LABELS), BadInput, "'a' is constant"),
    "held out": (lambda: generative.fit(SMALL, PICTURES, held_out=PICTURES[:, :, :4]), BadInput, "held_out has rows"),
    "held out labels": (lambda: generative.fit(NAMED, PICTURES, LABELS, held_out=PICTURES), BadInput, "and 0 labels"),
    "rate": (lambda: generative.fit(replace(SMALL, rate=1e30), PICTURES, steps=5), BadInput, "smaller rate"),
    "size": (lambda: generative.beta_tcvae(size=0), BadInput, "size must be"),
    "odd size": (lambda: generative.joint_vae(size=50), Unsupported, "halved only down to 25"),
    "latents": (lambda: generative.beta_tcvae(latents=0), BadInput, "latents must be"),
    "beta": (lambda: generative.beta_tcvae(beta=-1.0), BadInput, "beta must be"),
    "category": (lambda: generative.joint_vae(discrete=(1,)), BadInput, "discrete must be"),
    "names": (lambda: generative.supervised_vae(["a", "a"]), BadInput, "must be different"),
    "no names": (lambda: generative.supervised_vae([]), BadInput, "list of one or more"),
    "too many names": (lambda: generative.supervised_vae("abc", latents=2), BadInput, "list of one or more"),
    "space names": (lambda: JOINT.build(0).space(["a"]), BadInput, "4 different names"),
    "one code": (lambda: generative.mutual_information_gap(LABELS[:, :1], LABELS), BadInput, "2 or more"),
    "constant": (lambda: generative.mutual_information_gap(LABELS, 0 * LABELS), BadInput, "constant"),
    "flips": (lambda: generative.flips(translated, read_faces, FACES, ["a"]), BadInput, "1 attributes"),
    "limits": (lambda: generative.flips(translated, read_faces, FACES, "abc", 0.1, 0.5), BadInput, "most"),
    "one minibatch row": (lambda: latents.stratified_log_weights(1, 5), BadInput, "2 to 5 rows"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_refused(case):
    call, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        call()


# ---------------------------------------------------------------- dci


class Codes:
    """A model whose codes are given."""

    def __init__(self, codes):
        self.table = codes

    def codes(self, x):
        return self.table[x[:, 0].long()]


def dci_of(codes, factors):
    rows = torch.arange(len(factors)).float()[:, None]
    return generative.dci(Codes(codes), rows, factors, ["a", "b"])


def test_dci_knows_separate_codes_from_turned_and_from_silent_ones():
    g = torch.Generator().manual_seed(0)
    factors = torch.rand(300, 2, generator=g)
    noise = torch.rand(300, 2, generator=g)
    own = dci_of(torch.cat([factors, noise], 1), factors)
    assert own.disentanglement > 0.9
    assert own.completeness > 0.9
    assert min(own.informativeness.values()) > 0.95
    assert own.importance.argmax(0).tolist() == [0, 1]
    np.testing.assert_allclose(own.importance.sum(0), 1)
    turned = dci_of(torch.cat([factors @ torch.tensor([[1.0, 1.0], [1.0, -1.0]]), noise], 1), factors)
    assert turned.disentanglement < 0.3
    assert turned.completeness < 0.6
    assert min(turned.informativeness.values()) > 0.7
    silent = dci_of(noise, factors)
    assert max(silent.informativeness.values()) < 0.1


def test_dci_scores_follow_from_importance():
    from pellucid.generative.dci import _completeness, _disentanglement

    importance = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 0.5]], dtype=torch.float64)
    assert _disentanglement(importance) == pytest.approx(1)
    assert _completeness(importance) == pytest.approx((1 + 1 - math.log(2) / math.log(3)) / 2)
    assert _disentanglement(torch.full((3, 2), 1 / 3, dtype=torch.float64)) == pytest.approx(0)


@pytest.mark.parametrize(("factors", "message"), [((30, 1), "2 or more"), ((10, 2), "at least 20")], ids=["one", "few"])
def test_dci_refuses(factors, message):
    with pytest.raises(BadInput, match=message):
        dci_of(torch.rand(factors[0], 3), torch.rand(*factors))
