"""The attribute translator: its unit, its losses, its training, and the space that warns where it is poor."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import pellucid
from pellucid import BadInput, Run, Unsupported, generative, methods, removal, spaces
from pellucid.generative.learner import Step
from pellucid.generative.translator import Transfer, gradient_penalty

NAMES = ["hat", "beard"]
SMALL = replace(generative.translator(NAMES, size=16, channels=1, filters=4, critic_steps=2), batch=8, rate=2e-3)


def faces(count, seed=0):
    """16 x 16 pictures of some brightness, with or without a hat (three bright rows) and a beard, and a nose."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (count, 2), generator=generator).float()
    x = (torch.rand(count, 1, 1, 1, generator=generator) * 0.4 + 0.1).repeat(1, 1, 16, 16)
    x[:, 0, :3] += 0.4 * y[:, 0, None, None]
    x[:, 0, 13:, 4:12] += 0.4 * y[:, 1, None, None]
    x[torch.arange(count), 0, 6, torch.randint(6, 9, (count,), generator=generator)] = 1
    return x, y


def read(x):
    """The judge: how much brighter than the cheeks the places of hat and beard are."""
    cheeks = x[:, 0, 8:12].mean((1, 2))
    return torch.stack([x[:, 0, :3].mean((1, 2)) - cheeks, x[:, 0, 13:, 4:12].mean((1, 2)) - cheeks], 1) / 0.4


X, Y = faces(60)


def test_a_transfer_unit_is_its_formula():
    generator = torch.Generator().manual_seed(3)
    unit = Transfer(below=3, width=2, attributes=2).double()
    f, s = (torch.randn(2, *size, generator=generator, dtype=torch.float64) for size in ((2, 4, 4), (3, 2, 2)))
    d = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    with torch.no_grad():
        passed, state = unit(f, s, d)
        for row in range(2):
            planes = torch.ones(2, 2, 2, dtype=torch.float64) * d[row, :, None, None]
            below = torch.cat([s[row], planes])[None]
            raised = F.conv_transpose2d(below, unit.raised.weight, unit.raised.bias, stride=2, padding=1)[0]
            both = torch.cat([f[row], raised])[None]
            w, b = unit.gates.weight, unit.gates.bias
            reset = 1 / (1 + torch.exp(-F.conv2d(both, w[:2], b[:2], padding=1)[0]))
            update = 1 / (1 + torch.exp(-F.conv2d(both, w[2:], b[2:], padding=1)[0]))
            fresh = torch.cat([f[row], reset * raised])[None]
            new = torch.tanh(F.conv2d(fresh, unit.fresh.weight, unit.fresh.bias, padding=1)[0])
            assert torch.allclose(state[row], reset * raised, atol=1e-12)
            assert torch.allclose(passed[row], (1 - update) * raised + update * new, atol=1e-12)


def test_the_gradient_penalty_of_known_critics():
    real, fake = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = torch.tensor([0.0, 1.0, 0.5, 0.2, 0.9], dtype=torch.float64)
    w = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64)
    assert float(gradient_penalty(lambda x: x @ w, real, fake, share)) == pytest.approx(4)  # (3 - 1)^2
    between = share[:, None] * real + (1 - share[:, None]) * fake
    wanted = ((between.norm(dim=1) - 1) ** 2).mean()
    with torch.no_grad():
        found = gradient_penalty(lambda x: (x**2).sum(1) / 2, real, fake, share)
    assert float(found) == pytest.approx(float(wanted))


@pytest.mark.parametrize("part", ["critic", "generator"])
def test_the_losses_are_their_formulas(part):
    learner, x, y, step = SMALL.build(1).double(), X[:6].double(), Y[:6].double(), Step(4, 60, seed=2)
    terms = learner.losses(part, x, y, step)
    other, coins = y[step.order("other", 6)], step.uniform("coins", y)
    wanted = torch.tensor(
        [[float(y[i, j] if coins[i, j] < 0.5 else other[i, j]) for j in range(2)] for i in range(6)]
    ).double()
    assert not torch.equal(wanted, y)
    made = learner(x, wanted - y)
    score, strength = learner.critic(made)[0], 0.5 * step.uniform("strength", x[:, 0, 0, 0])
    noise = torch.stack([s * n for s, n in zip(strength, step.normal("noise", x), strict=True)])

    def entropy(logits, truth):
        p = torch.sigmoid(logits)
        return -(truth * p.log() + (1 - truth) * (1 - p).log()).mean()

    if part == "generator":
        back = (learner.reconstruct(x) - x).abs().mean()
        before = torch.sigmoid(learner.critic(x + noise)[1]).detach()
        to_read = torch.where(wanted == y, before, wanted)
        loss = -score.mean() + 10 * entropy(learner.critic(made + noise)[1], to_read) + 100 * back
    else:
        real, own = learner.critic(x)[0], learner.critic(x + noise)[1]
        share = step.uniform("between", x[:, 0, 0, 0])
        penalty = gradient_penalty(lambda x: learner.critic(x)[0], x, made.detach(), share)
        loss = score.mean() - real.mean() + 10 * penalty + entropy(own, y)
    assert float(terms["loss"].detach()) == pytest.approx(float(loss.detach()), rel=1e-10)
    learner.zero_grad()
    terms["loss"].backward()
    own = learner.critic if part == "critic" else learner.generator
    assert all(p.grad is not None for p in own.parameters() if p is not learner.critic.real[2].bias)
    if part == "critic":
        assert all(p.grad is None for p in learner.generator.parameters())


def test_parts_take_turns_and_a_killed_training_goes_on_with_the_same_bits(tmp_path):
    assert [SMALL.build(0).turn(i) for i in range(6)] == ["critic", "critic", "generator"] * 2
    held_out = faces(20, seed=1)

    def train(run=None):
        return generative.fit(SMALL, X, Y, steps=9, every=4, held_out=held_out, seed=3, run=run)

    def killed(what, done, total):
        if done == 4:
            raise KeyboardInterrupt

    once = train()
    with pytest.raises(KeyboardInterrupt):
        train(Run(store=tmp_path, progress=killed))
    again = train(Run(store=tmp_path))
    other = again.model.state_dict()
    assert all(torch.equal(values, other[name]) for name, values in once.model.state_dict().items())
    assert once.losses.equals(again.losses)
    losses = once.losses
    assert losses["critic gap"].notna().tolist() == [True, True, False] * 3
    assert losses["generator attributes"].notna().tolist() == [False, False, True] * 3
    start = SMALL.build(3).state_dict()
    assert not any(torch.equal(start[n], v) for n, v in once.model.state_dict().items() if n.endswith("0.weight"))


def test_the_mask_says_where_the_picture_is_painted_over():
    """With weights that make every pixel alike, G = x + m (p - x), m and p sigmoids of the biases; ends exact."""
    model = SMALL.build(0).eval()
    last, d = model.generator.last, torch.tensor([[1.0, 0.0]]).expand(len(X), 2)
    with torch.no_grad():
        last.weight.zero_()
        for paint, mask in ((0.0, 0.0), (1.0, -2.0), (3.0, 40.0), (-1.0, -110.0)):
            last.bias.copy_(torch.tensor([paint, mask]))
            p, m = (1 / (1 + math.exp(-v)) for v in (paint, mask))
            made = model(X, d)
            assert torch.allclose(made, X + m * (p - X), atol=1e-6)
            if mask == -110:
                assert torch.equal(made, X)


def test_rows_do_not_depend_on_one_another_and_pictures_stay_in_range():
    model = SMALL.build(0).eval()
    d = torch.tensor([[1.0, 0], [0, -1], [0, 0]])
    with torch.no_grad():
        together = model(X[:3], d)
        assert together.shape == X[:3].shape
        assert torch.allclose(together[1:2], model(X[1:2], d[1:2]), atol=1e-5)
        assert 0 <= float(together.min()) <= float(together.max()) <= 1
        assert torch.equal(model.reconstruct(X[:3])[2:], together[2:])
        assert set(model.read(X).unique().tolist()) <= {0.0, 1.0}


def test_the_space_warns_unless_the_flips_pass():
    model = SMALL.build(0).eval()

    def exact(x, difference):
        made = x.clone()
        made[:, 0, :3] += 0.4 * difference[:, 0, None, None]
        made[:, 0, 13:, 4:12] += 0.4 * difference[:, 1, None, None]
        return made

    with pytest.warns(pellucid.Unreliable, match="nobody measured it"):
        model.space()
    poor = generative.flips(model, read, X, NAMES)
    with pytest.warns(pellucid.Unreliable, match="not to be believed; asked to change"):
        model.space(poor)
    good = generative.flips(exact, read, X, NAMES)
    assert good.passes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space = model.space(good, read=spaces.labels(X, Y), tolerance=float("inf"))
    f = pellucid.wrap(lambda x: x.mean((1, 2, 3)), scale="value")
    method = methods.exact_shapley(removal.marginal(X[10:16]))
    e = pellucid.explain(f, X[:2], method, space=space)
    assert list(e.feature_names) == [*NAMES, "unlabelled"]
    with torch.no_grad():
        ends = [model(X[:2], torch.zeros(2, 2)).mean((1, 2, 3)), model.reconstruct(X[10:16]).mean()]
    assert torch.allclose(torch.as_tensor(e.values).float().sum(1), ends[0] - ends[1], atol=1e-5)


@pytest.mark.parametrize(("size", "depth"), [(8, 1), (28, 2), (32, 3), (64, 4), (128, 5), (256, 5)])
def test_pictures_of_the_usual_sizes(size, depth):
    recipe = generative.translator(["a"], size=size, filters=1)
    assert recipe.widths == tuple(2**level for level in range(depth))
    if size <= 64:
        assert recipe.build(0)(torch.zeros(1, 3, size, size), torch.ones(1, 1)).shape == (1, 3, size, size)


@pytest.mark.slow
def test_a_trained_translator_changes_what_it_is_asked_to_change_and_nothing_else():
    recipe = replace(SMALL, filters=8, batch=32, rate=1e-3)
    fitted = generative.fit(recipe, *faces(600), steps=2400)
    x, _ = faces(300, seed=1)
    found = generative.flips(fitted.model, read, x, NAMES)
    assert found.passes, found.reasons
    assert found.matrix.fill_diagonal_(0).max() < 0.03
    assert generative.reconstruction(fitted.model, x).explained > 0.95


WRONG = {
    "no names": (lambda: generative.translator([]), BadInput, "one or more different"),
    "text": (lambda: generative.translator("hat"), BadInput, "list of attributes"),
    "twice": (lambda: generative.translator(["a", "a"]), BadInput, "different"),
    "size": (lambda: generative.translator(["a"], size=50), Unsupported, "halved only"),
    "steps": (lambda: generative.translator(["a"], critic_steps=0), BadInput, "critic_steps"),
    "weight": (lambda: generative.translator(["a"], attribute_weight=-1), BadInput, "attribute_weight"),
    "noise": (lambda: generative.translator(["a"], noise=1), BadInput, "noise must be a standard deviation"),
    "no labels": (lambda: generative.fit(SMALL, X), BadInput, "got none"),
    "soft labels": (lambda: generative.fit(SMALL, X, Y / 2), BadInput, "'hat' must be 0"),
    "one value": (lambda: generative.fit(SMALL, X, Y * torch.tensor([1, 0])), BadInput, "'beard' must be 0"),
    "held out": (lambda: generative.fit(SMALL, X, Y, held_out=(X, Y / 2)), BadInput, "'hat' must be 0"),
    "differences": (lambda: SMALL.build(0)(X[:2], torch.zeros(2, 3)), BadInput, r"\(2, 2\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_refused(case):
    call, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        call()
