"""Generative models: the terms of their losses by hand, and what they are for."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import generative, methods, removal
from pellucid.generative import latents
from pellucid.generative.learner import Step
from tests.reference.learners import JOINT, NAMED, PICTURES, bars


@pytest.mark.parametrize(("batch", "rows"), [(2, 2), (3, 10), (5, 5), (8, 1000)])
def test_stratified_weights_are_those_of_the_formula(batch, rows):
    weights, others = latents.stratified_log_weights(batch, rows).exp(), batch - 1
    for i in range(batch):
        for j in range(batch):
            expected = 1 / rows if i == j else 1 / others
            if j == (i + 1) % batch:
                expected = (rows - others) / (rows * others)
            assert float(weights[i, j]) == pytest.approx(expected, rel=1e-12)
        assert float(weights[i].sum()) == pytest.approx(1, rel=1e-12)


def test_stratified_sampling_is_unbiased_over_all_minibatches():
    """The mean of Σ_j W_ij q_j over every ordered minibatch that holds row i is q(z_i) itself; with 1/N in the first
    column in place of the diagonal, as in released code, it is not."""
    density = torch.tensor([5.0, 0.1, 0.7, 0.2, 1.1], dtype=torch.float64)  # q(z_0 | x_j)
    weights = latents.stratified_log_weights(3, 5).exp()
    wrong = torch.full((3, 3), 0.5, dtype=torch.float64)
    wrong.view(-1)[::3], wrong.view(-1)[1::3], wrong[2, 0] = 1 / 5, 3 / 10, 3 / 10
    means = {}
    for name, table in (("right", weights), ("released", wrong)):
        found = [
            table[order.index(0)] @ density[list(order)] for order in itertools.permutations(range(5), 3) if 0 in order
        ]
        means[name] = float(torch.stack(found).mean())
    assert means["right"] == pytest.approx(float(density.mean()), rel=1e-12)
    assert abs(means["released"] - float(density.mean())) > 0.2


def density(z, mean, log_var):
    return math.exp(-((z - mean) ** 2) / (2 * math.exp(log_var))) / math.sqrt(2 * math.pi * math.exp(log_var))


def literal_divergences(z, mean, log_var, rows):
    batch, width = z.shape
    z, mean, log_var = z.tolist(), mean.tolist(), log_var.tolist()
    weights = latents.stratified_log_weights(batch, rows).exp().tolist()
    parts = [0.0, 0.0, 0.0]
    for i in range(batch):
        own = [density(z[i][k], mean[i][k], log_var[i][k]) for k in range(width)]
        joint = sum(
            weights[i][j] * math.prod(density(z[i][k], mean[j][k], log_var[j][k]) for k in range(width))
            for j in range(batch)
        )
        each = [
            sum(weights[i][j] * density(z[i][k], mean[j][k], log_var[j][k]) for j in range(batch)) for k in range(width)
        ]
        prior = [density(z[i][k], 0, 0) for k in range(width)]
        parts[0] += (math.log(math.prod(own)) - math.log(joint)) / batch
        parts[1] += (math.log(joint) - math.log(math.prod(each))) / batch
        parts[2] += (math.log(math.prod(each)) - math.log(math.prod(prior))) / batch
    return parts


def posterior(learner, x):
    mean, log_var, log_alphas = learner._posterior(x)
    return mean, log_var, log_alphas


def literal_reconstruction(learner, codes, x):
    p = learner.decode(codes).clamp(1e-300, 1)
    return float(-(x * p.log() + (1 - x) * (1 - p).log()).sum() / len(x))


@pytest.mark.parametrize("index", [0, 4, 25])
def test_beta_tcvae_loss_is_its_formula(index):
    recipe = replace(NAMED, alpha=0.7, gamma=1.3, beta=3.0, weight=11.0)
    learner, x = recipe.build(1).double(), PICTURES[:6].double()
    y = torch.tensor([[1.0, 2], [3, 4], [0, math.nan], [2, 2], [5, 1], [math.nan, math.nan]], dtype=torch.float64)
    learner.prepare(x, y)
    step = Step(index, 40, seed=3)
    with torch.no_grad():
        terms = learner.losses("model", x, y, step)
        mean, log_var, _ = posterior(learner, x)
        z = mean + (0.5 * log_var).exp() * step.normal("latents", mean)
        parts = literal_divergences(z, mean, log_var, 40)
        reconstruction = literal_reconstruction(learner, z, x)
    labels = 0.0
    for column in range(2):
        known = [float(v) for v in y[:, column] if not math.isnan(v)]
        centre, spread = np.mean(known), np.std(known, ddof=1)
        for row in range(6):
            if not math.isnan(y[row, column]):
                labels += (float(mean[row, column]) - (float(y[row, column]) - centre) / spread) ** 2 / 5
    ramp = min(1, index / 10)
    wanted = reconstruction + 0.7 * parts[0] + 3 * parts[1] + ramp * 1.3 * parts[2] + 11 * labels
    assert float(terms["loss"]) == pytest.approx(wanted, rel=1e-9)
    assert float(terms["labels"]) == pytest.approx(labels, rel=1e-6)
    assert float(sum(parts)) == pytest.approx(
        float((latents.log_normal(z, mean, log_var) - latents.log_normal(z, 0 * z, 0 * z)).sum(1).mean()), rel=1e-9
    )


@pytest.mark.parametrize(
    ("index", "room", "rest"), [(0, 0, 0), (3, 1.5, 1.5), (8, 4, math.log(12)), (99, 5, math.log(12))]
)
def test_joint_vae_loss_is_its_formula(index, room, rest):
    learner, x, step = JOINT.build(1).double(), PICTURES[:6].double(), Step(index, 40, seed=3)
    with torch.no_grad():
        terms = learner.losses("model", x, None, step)
        mean, log_var, log_alphas = posterior(learner, x)
        z = [mean + (0.5 * log_var).exp() * step.normal("latents", mean)]
        for i, log_alpha in enumerate(log_alphas):
            u = step.uniform(f"category {i}", log_alpha)
            soft = ((log_alpha - (-u.log()).log()) / 0.67).exp()
            z.append(soft / soft.sum(1, keepdim=True))
        reconstruction = literal_reconstruction(learner, torch.cat(z, 1), x)
    normal = torch.distributions.Normal
    continuous = torch.distributions.kl_divergence(normal(mean, (0.5 * log_var).exp()), normal(0 * mean, 1 + 0 * mean))
    categorical = torch.distributions.Categorical
    discrete = sum(
        torch.distributions.kl_divergence(categorical(logits=part), categorical(logits=0 * part)).mean()
        for part in log_alphas
    )
    gaussian = float(continuous.sum(1).mean())
    wanted = (reconstruction + 30 * abs(room - gaussian) + 30 * abs(rest - float(discrete))) / 64
    assert float(terms["loss"]) == pytest.approx(wanted, rel=1e-9)


def test_gumbel_samples_have_the_probabilities_of_their_category_and_pass_gradients():
    p = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    log_alpha = p.log().expand(4000, 3).clone().requires_grad_()
    step = Step(7, 4000, seed=2)
    sample = latents.gumbel_softmax(log_alpha, step.uniform("c", log_alpha), 0.67)
    share = sample.argmax(1).bincount(minlength=3) / 4000
    assert (share - p).abs().max() < 4 * math.sqrt(0.25 / 4000)
    assert torch.allclose(sample.sum(1), torch.ones(4000, dtype=torch.float64))
    sample[:, 0].sum().backward()
    assert log_alpha.grad.abs().sum() > 0
    assert torch.equal(sample, latents.gumbel_softmax(log_alpha, step.uniform("c", log_alpha), 0.67))
    assert not torch.equal(sample, latents.gumbel_softmax(log_alpha, Step(8, 4000, 2).uniform("c", log_alpha), 0.67))
    edge = latents.gumbel_softmax(log_alpha[:2].float(), torch.tensor([[0.0, 0, 0], [1, 1, 1]]), 0.67)
    assert edge.isfinite().all()


def test_labelled_latents_take_the_names_of_their_labels():
    x, y = bars(400)
    partly = y.clone()
    partly[::3, 1] = math.nan
    recipe = replace(
        generative.supervised_vae(["place", "light"], size=8, latents=4, beta=2.0, anneal=100),
        filters=(16,), hidden=(64,), rate=2e-3, batch=50,
    )  # fmt: skip
    fitted = generative.fit(recipe, x, partly, steps=400, every=200)
    there, truth = bars(200, seed=1)
    with torch.no_grad():
        found = fitted.model.read(there)
    for column in range(2):
        assert np.corrcoef(found[:, column], truth[:, column])[0, 1] > 0.97
    assert (found[:, 0] - truth[:, 0]).abs().mean() < 0.4  # in the units of the label
    assert fitted.model.space().names == ("place", "light", "z0", "z1")
    quality = generative.reconstruction(fitted.model, there, x)
    assert quality.passes
    assert quality.explained > 0.5
    told = generative.disentanglement(fitted.model, there, truth, ["place", "light"], bins=6)
    assert told.passes
    assert told.mig > 0.3 > 0.1 > told.chance


def test_a_category_is_one_player_and_is_never_cut():
    learner = JOINT.build(0).eval()
    blocks = []
    decode = learner.decode

    def watched(z):
        blocks.append(z[:, 2:].detach())
        return decode(z)

    learner.decode = watched
    space = learner.space(["slant", "width", "digit", "style"])
    assert space.names == ("slant", "width", *(f"digit={i}" for i in range(3)), *(f"style={i}" for i in range(4)))
    model = pellucid.wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval(), bounds=(0, 1))
    with pytest.warns(pellucid.Unreliable):  # an untrained codec gives nothing back
        e = pellucid.explain(model, PICTURES[:2], methods.exact_shapley(removal.marginal(PICTURES[5:15])), space=space)
    assert e.values.shape == (2, 4)
    assert list(e.feature_names) == ["slant", "width", "digit", "style"]
    seen = torch.cat(blocks)
    assert torch.equal(seen[:, :3].sort(1).values, torch.tensor([0.0, 0, 1]).expand(len(seen), 3))
    assert torch.equal(seen[:, 3:].sum(1), torch.ones(len(seen)))


def test_encoding_draws_nothing_and_rows_do_not_depend_on_one_another():
    learner = JOINT.build(3).eval()
    with torch.no_grad():
        whole, single = learner.encode(PICTURES[:5]), learner.encode(PICTURES[2:3])
        assert torch.equal(whole, learner.encode(PICTURES[:5]))
        assert torch.allclose(whole[2:3], single, atol=1e-6)
        assert learner.decode(whole).shape == (5, 1, 8, 8)
        codes = learner.codes(PICTURES[:5])
    assert codes.shape == (5, 4)
    assert torch.equal(codes[:, 2].long(), whole[:, 2:5].argmax(1))


@pytest.mark.parametrize("size", [28, 32, 64, 128])
def test_networks_of_the_usual_sizes(size):
    for recipe in (generative.beta_tcvae(size, channels=3), generative.joint_vae(size, channels=3)):
        small = replace(recipe, filters=(2,), hidden=(4,)).build(0)
        assert small.reconstruct(torch.zeros(1, 3, size, size)).shape == (1, 3, size, size)
    widths = [layer.out_channels for layer in generative.joint_vae().build(0).down if isinstance(layer, nn.Conv2d)]
    assert widths == [32, 64, 64]
    layers = [layer for layer in generative.beta_tcvae().build(0).modules() if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in layers] == [512, 256, 256, 10, 256, 256]
