"""Generative models: their losses, the training loop, the spaces they give, and what says how good they are."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Run, Unsupported, generative, methods, removal
from pellucid.generative import latents
from pellucid.generative.learner import Learner, Step

PICTURES = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SMALL = replace(generative.beta_tcvae(size=8, latents=3, anneal=10), batch=16, filters=(4,), hidden=(8,))
JOINT = replace(
    generative.joint_vae(size=8, continuous=2, discrete=(3, 4), ramp=10), batch=16, filters=(4,), hidden=(8,)
)
NAMED = replace(
    generative.supervised_vae(["a", "b"], size=8, latents=3, anneal=10), batch=16, filters=(4,), hidden=(8,)
)


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(values, other[name]) for name, values in a.state_dict().items())


# ---------------------------------------------------------------- parts of the losses


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


# ---------------------------------------------------------------- the loop


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


# ---------------------------------------------------------------- what the models are for


def bars(count, seed=0):
    """8 x 8 pictures of a bar: its column in 1..6 and its brightness, both labels."""
    generator = torch.Generator().manual_seed(seed)
    place, light = torch.rand(count, generator=generator) * 5 + 1, torch.rand(count, generator=generator)
    columns = torch.arange(8.0)
    profile = (1 - (columns - place[:, None]).abs()).clamp(0) * (0.3 + 0.7 * light[:, None])
    return profile[:, None, None, :].expand(count, 1, 8, 8).contiguous(), torch.stack([place, light], 1)


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


# ---------------------------------------------------------------- how good they are


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
