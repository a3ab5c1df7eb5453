"""Semantic explanations where the truth is known: attributes, sprites, dummies, latents, traversals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Unreliable, data, methods, removal, spaces

GENERATOR = torch.Generator().manual_seed(0)
NAMES = ("young", "glasses", "blond", "bald")
PATTERNS = torch.randn(4, 3, 6, 6, generator=GENERATOR, dtype=torch.float64)
WEIGHT = torch.randn(3, 6, 6, generator=GENERATOR, dtype=torch.float64)


class Pictures:
    """x = base + Σ a_j pattern_j, with labels a: the analytic image-to-image case."""

    def __init__(self, count: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.base = torch.rand(count, 3, 6, 6, generator=generator, dtype=torch.float64)
        self.a = torch.randint(0, 2, (count, 4), generator=generator).double()
        self.a[:, 3] *= 1 - self.a[:, 2]  # nobody is blond and bald
        self.x = self.base + torch.einsum("bj,jchw->bchw", self.a, PATTERNS)


HERE, THERE = Pictures(5, 1), Pictures(30, 2)
LABELS = spaces.labels(torch.cat([HERE.x, THERE.x]), torch.cat([HERE.a, THERE.a]))


def translate(x, difference):
    return x + torch.einsum("bj,jchw->bchw", difference, PATTERNS)


def linear(x):
    return (x * WEIGHT).sum((1, 2, 3))


@pytest.mark.parametrize(
    "method",
    [
        methods.exact_shapley(removal.marginal(THERE.x)),
        methods.permutation_shapley(40, removal=removal.marginal(THERE.x)),
        methods.integrated_gradients(steps=4, baseline=removal.marginal(THERE.x)),
    ],
    ids=lambda m: m.name,
)
def test_attributes_under_an_analytic_translator_have_a_closed_form(method):
    space = spaces.attributes(translate, NAMES, LABELS)
    e = pellucid.explain(linear, HERE.x, method, space=space)
    per_pattern = torch.einsum("jchw,chw->j", PATTERNS, WEIGHT)
    labelled = per_pattern * (HERE.a - THERE.a.mean(0))
    unlabelled = ((HERE.base - THERE.base.mean(0)) * WEIGHT).sum((1, 2, 3))
    assert e.feature_names == (*NAMES, "unlabelled")
    assert np.allclose(e.values, torch.cat([labelled, unlabelled[:, None]], 1).numpy(), atol=1e-10)
    assert np.abs(e.details["reconstruction_gap"]).max() < 1e-12
    assert e.residual.max() < 1e-10


def test_what_the_translator_gets_is_the_spliced_difference():
    seen = []

    def watch(x, difference):
        seen.append(difference)
        return x + 0.1

    space = spaces.attributes(watch, NAMES, LABELS, tolerance=1e3)
    e = pellucid.explain(linear, HERE.x[:1], methods.exact_shapley(removal.marginal(THERE.x[:1])), space=space)
    mine, theirs = HERE.a[0], THERE.a[0]
    wanted = [torch.where(torch.tensor(bits) > 0, mine, theirs) for bits in np.ndindex(2, 2, 2, 2)]
    expected = {tuple((t - own).tolist()) for t in wanted for own in (mine, theirs)}
    assert {tuple(row.tolist()) for block in seen for row in block} == expected
    assert e.details["reconstruction_gap"][0] == pytest.approx(-0.1 * float(WEIGHT.sum()))  # of G(x, 0)


def test_attributes_that_exclude_each_other_are_left_or_cleared():
    group = [["blond", "bald"]]
    seen = []

    def watch(x, difference):
        seen.append(difference)
        return x

    blond, bald = HERE.a.clone(), HERE.a.clone()
    blond[:, 2:], bald[:, 2:] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    reader = spaces.labels(torch.cat([HERE.x, HERE.x + 1]), torch.cat([blond, bald]))
    for resolve, own_base in ((False, (0.0, 1.0)), (True, (-1.0, 1.0))):
        seen.clear()
        space = spaces.attributes(watch, NAMES, reader, exclusive=group, resolve=resolve)
        z = space.encode(HERE.x)
        z[:, 3] = 1.0  # a blond picture asked to be bald too
        space.decode(z)
        assert {tuple(row) for row in seen[0][:, 2:].tolist()} == {own_base}
    seen.clear()
    z = space.encode(HERE.x + 1)
    z[:, 2] = 1.0
    space.decode(z)
    assert {tuple(row) for row in seen[0][:, 2:].tolist()} == {(1.0, -1.0)}
    seen.clear()
    reader.rows.update(spaces.labels(HERE.x - 1, torch.zeros(5, 4).double()).rows)
    z = space.encode(HERE.x - 1)
    z[:, 2:4] = 1.0  # neither before, both wanted: the first of the group stays
    space.decode(z)
    assert {tuple(row) for row in seen[0][:, 2:].tolist()} == {(1.0, 0.0)}


def test_cleared_attributes_still_make_a_game():
    space = spaces.attributes(translate, NAMES, LABELS, exclusive=[["blond", "bald"]], resolve=True)
    method = methods.exact_shapley(removal.marginal(THERE.x))
    e = pellucid.explain(lambda x: linear(x).sin(), HERE.x, method, space=space)
    assert e.residual.max() < 1e-10


def contradict(x):
    return torch.ones(len(x), 4).double()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: spaces.attributes(translate, NAMES), "read: expected a function of"),
        (lambda: spaces.attributes(translate, ("a", "a"), LABELS), "must be different"),
        (lambda: spaces.attributes(translate, ("unlabelled",), LABELS), "none 'unlabelled'"),
        (lambda: spaces.attributes(translate, NAMES, LABELS, exclusive=[["bald", "red"]]), "of the names"),
        (lambda: spaces.attributes(translate, NAMES, LABELS, resolve=True), "exclusive="),
        (lambda: spaces.attributes(translate, NAMES, LABELS, coding=(1, 0)), "coding"),
        (lambda: spaces.labels(HERE.x, HERE.a[:2]), "one row of attributes for each"),
        (lambda: spaces.labels(HERE.x, HERE.a * torch.nan), "NaN"),
        (lambda: spaces.labels(HERE.x[[0, 0]], HERE.a[:1] * 0 + torch.tensor([[0.0], [1.0]])), "contradict"),
    ],
    ids=[
        "no reader",
        "twice",
        "taken",
        "unknown",
        "nothing to resolve",
        "coding",
        "short labels",
        "labels NaN",
        "two labels",
    ],
)
def test_attributes_that_make_no_sense_are_refused(make, words):
    with pytest.raises(BadInput, match=words):
        make()


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.attributes(translate, NAMES[:3], LABELS), "must return 3 attributes"),
        (spaces.attributes(translate, NAMES, contradict, exclusive=[["blond", "bald"]]), "labelled 'blond' and 'bald'"),
        (spaces.attributes(lambda x, d: x[:, :1], NAMES, LABELS), "must return pictures like"),
        (spaces.attributes(lambda x, d: x * torch.nan, NAMES, LABELS), "NaN"),
        (spaces.attributes(translate, NAMES, spaces.labels(THERE.x, THERE.a)), "not among the 30"),
        (spaces.attributes(translate, NAMES, lambda x: torch.full((len(x), 4), torch.nan)), "NaN"),
    ],
    ids=["width", "contradiction", "translator", "translator NaN", "unknown picture", "labels NaN"],
)
def test_attributes_that_do_not_fit_are_named(space, words):
    with pytest.raises(BadInput, match=words):
        pellucid.explain(linear, HERE.x, methods.feature_ablation(removal.marginal(THERE.x)), space=space)


def test_a_translator_that_changes_more_than_it_should_is_warned_of():
    space = spaces.attributes(lambda x, d: x * 0.5, NAMES, LABELS)
    with pytest.warns(Unreliable, match="reconstruction"):
        pellucid.explain(linear, HERE.x, methods.exact_shapley(removal.marginal(THERE.x)), space=space)


def test_attributes_work_globally():
    space = spaces.attributes(translate, NAMES, LABELS)
    rule = pellucid.wrap(lambda x: torch.stack([-linear(x), linear(x)], 1) / 50 + 0.5, scale="prob")
    x, y = torch.cat([HERE.x, THERE.x]), torch.cat([HERE.a, THERE.a])[:, 1].long()
    g = pellucid.explain_global(rule, x, y, methods.exact_shapley(removal.marginal(THERE.x)), space=space)
    sign = (2 * y - 1).double() / 50
    labels, base = torch.cat([HERE.a, THERE.a]), torch.cat([HERE.base, THERE.base])
    per_pattern = torch.einsum("jchw,chw->j", PATTERNS, WEIGHT)
    labelled = (sign[:, None] * per_pattern * (labels - THERE.a.mean(0))).mean(0)
    unlabelled = (sign * ((base - THERE.base.mean(0)) * WEIGHT).sum((1, 2, 3))).mean()
    assert np.allclose(g.values[0], [*labelled.tolist(), float(unlabelled)], atol=1e-10)
    assert g.feature_names[-1] == "unlabelled"


SPRITES = data.sprites(220, seed=3)
CODEC = spaces.decoder(data.sprite_latents, data.render_sprites, names=data.SPRITE_LATENTS)
CUTS = torch.tensor([((10 + 2 * k) ** 2 + (12 + 2 * k) ** 2) / 2 for k in range(5)])  # between the areas by scale


def top_half(x):
    """The paper's rule: the class is the scale whose area the white pixels of the top half come to; one-hot."""
    lit = x[:, 0, :32].sum((1, 2))
    return torch.nn.functional.one_hot(torch.bucketize(lit, CUTS), 6).double()


RULE = pellucid.wrap(top_half, scale="prob")


def test_position_x_never_matters_to_white_pixels_in_the_top_half():
    x, background = SPRITES.x[:20], SPRITES.x[20:60]
    e = pellucid.explain(RULE, x, methods.exact_shapley(removal.marginal(background)), space=CODEC)
    assert e.feature_names[3] == "pos_x"
    assert (e.values[:, 3] == 0).all()
    assert np.abs(e.values[:, [0, 1, 2, 4]]).max() > 0.1
    assert np.abs(e.details["reconstruction_gap"]).max() == 0
    assert e.residual.max() < 1e-12
    sampled = methods.permutation_shapley(60, removal=removal.marginal(background, draws=1))
    e = pellucid.explain(RULE, x, sampled, space=CODEC)
    assert (e.values[:, 3] == 0).all()
    assert (e.std_error[:, 3] == 0).all()


def test_globally_position_y_and_scale_dominate():
    x, background = SPRITES.x[:160], SPRITES.x[160:]
    y = top_half(x).argmax(1)
    method = methods.permutation_shapley(30, removal=removal.marginal(background, draws=1))
    g = pellucid.explain_global(RULE, x, y, method, space=CODEC)
    values = dict(zip(g.feature_names, g.values[0], strict=True))
    assert values["pos_x"] == 0
    assert g.std_error[0, 3] == 0
    assert values["pos_y"] > values["scale"] > 5 * max(abs(values["shape"]), abs(values["orientation"]))
    assert g.outputs[0] == 1  # the rule is right about itself
    pairs = top_half(background)[:, y].mean()
    assert g.base_values[0] == pytest.approx(float(pairs))
    assert g.residual[0] < 1e-12


def test_a_latent_that_does_nothing_has_exactly_nothing():
    net = torch.nn.Sequential(torch.nn.Linear(9, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).eval()
    codec = spaces.decoder(lambda x: torch.cat([x, x[:, :1].sin()], 1), lambda z: z[:, :9])  # the tenth is not read
    x = torch.randn(3, 9, generator=GENERATOR)
    background = torch.randn(30, 9, generator=GENERATOR)
    for draws in (None, 1, 4):
        there = removal.marginal(background, draws=draws)
        for method in (methods.permutation_shapley(200, removal=there), methods.shapley_sampling(200, removal=there)):
            e = pellucid.explain(net, x, method, "all", space=codec)
            assert (e.values[:, 9] == 0).all()
            assert (e.std_error[:, 9] == 0).all()


def test_fourier_values_sum_to_a_millionth_in_single_precision():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4200, 5))
    for size in ((17, 37), (27, 23)):  # odd and not square
        assert 8 * (size[0] - 2) * (size[1] - 2) == 4200
        x, background = (torch.rand(rows, 3, *size, generator=GENERATOR) for rows in (2, 6))
        method = methods.permutation_shapley(100, removal=removal.marginal(background, draws=1))
        e = pellucid.explain(net.eval(), x, method, "all", space=spaces.fourier(bins=10))
        at = net(spaces.fourier().decode(spaces.fourier().encode(x))).detach().numpy()
        assert e.values.shape == (2, 10, 5)
        scale = np.abs(e.outputs - e.base_values)
        assert (np.abs(e.values.sum(1) - (at - e.base_values)) <= 1e-6 * np.maximum(scale, np.abs(at))).all()
        assert e.values.dtype == np.float64


def test_fewer_background_rows_than_draws_are_used_equally_often():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double().eval()
    x, background = (torch.randn(rows, 4, generator=GENERATOR, dtype=torch.float64) for rows in (3, 5))
    once, twice, more = (
        pellucid.explain(net, x, methods.exact_shapley(removal.marginal(background, draws=d)), 0) for d in (None, 10, 7)
    )
    assert np.allclose(once.values, twice.values, atol=1e-14)
    assert (twice.std_error == 0).all()
    assert (more.std_error > 0).all()
    assert (np.abs(more.values - once.values) < 6 * more.std_error).all()


def test_all_classes_come_from_the_same_forwards():
    net = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.Tanh(), torch.nn.Linear(16, 7)).eval()
    x, background = (torch.randn(rows, 10, generator=GENERATOR) for rows in (1, 50))
    method = methods.permutation_shapley(400, removal=removal.marginal(background, draws=1))
    one = pellucid.explain(net, x, method, pellucid.Target(3, read="prob"))
    every = pellucid.explain(net, x, method, pellucid.Target("all", read="prob"))
    assert every.values.shape == (1, 10, 7)
    assert every.cost["forwards"] == one.cost["forwards"]
    assert np.allclose(every.values[..., 3], one.values, atol=1e-12)
    assert np.abs(every.values.sum(2)).max() < 1e-6  # probabilities share out nothing among classes


def test_a_traversal_shows_what_the_model_says_on_the_way():
    background = SPRITES.x[20:60]
    t = pellucid.traverse(RULE, SPRITES.x[:1], CODEC, background, steps=6)
    assert [s.name for s in t.sweeps] == list(data.SPRITE_LATENTS)
    assert t["shape"].values.tolist() == [0, 1, 2]  # the values it has, where they are few
    assert len(t["pos_y"].outputs) == 6
    latents = data.sprite_latents(SPRITES.x[:1])
    for sweep in t.sweeps:
        place = data.SPRITE_LATENTS.index(sweep.name)
        at = latents.repeat(len(sweep.values), 1)
        at[:, place] = torch.from_numpy(sweep.values)
        assert np.array_equal(sweep.inputs, data.render_sprites(at).numpy())
        assert sweep.here == float(latents[0, place])
    assert np.ptp(t["pos_x"].outputs) == t.effect["pos_x"] == 0
    assert t.output == 1
    assert len(t.plot().axes) == 5 * 6


def test_a_traversal_moves_blocks_as_a_whole_and_inside_a_model():
    space = spaces.attributes(translate, NAMES, LABELS)
    t = pellucid.traverse(linear, HERE.x[:1], space, THERE.x, steps=4)
    per_pattern = torch.einsum("jchw,chw->j", PATTERNS, WEIGHT)
    assert t["glasses"].values.tolist() == [0, 1]
    assert np.diff(t["glasses"].outputs) == pytest.approx(float(per_pattern[1]))
    assert t["unlabelled"].values is None
    kept = torch.einsum("j,jchw->chw", HERE.a[0], PATTERNS)
    for picture in torch.from_numpy(t["unlabelled"].inputs):  # another base picture, with the attributes of x
        assert float((THERE.base + kept - picture).abs().flatten(1).amax(1).min()) < 1e-12
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).eval()
    x = torch.randn(9, 4, generator=GENERATOR)
    t = pellucid.traverse(net, x[:1], spaces.layer(net, "1"), x, target="all", steps=5)
    assert t.sweeps[0].inputs is None
    assert t.sweeps[0].outputs.shape == (5, 2)
    slope = np.diff(t.sweeps[0].outputs, axis=0) / np.diff(t.sweeps[0].values)[:, None]
    assert np.allclose(slope, net[2].weight[:, 0].detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"), [({"x": X2}, "one row") for X2 in [SPRITES.x[:2]]] + [({"steps": 1}, "steps")], ids=["x", "n"]
)
def test_a_traversal_asks_for_what_it_can_show(change, words):
    given = {"x": SPRITES.x[:1], "steps": 3} | change
    with pytest.raises(BadInput, match=words):
        pellucid.traverse(RULE, given["x"], CODEC, SPRITES.x[1:9], steps=given["steps"])


def products(x):
    """Three numbers of five columns, the last of which is not read; products alone, so that equal rows are equal."""
    return torch.stack([x[:, 0] * x[:, 1] * x[:, 2], x[:, 2] * x[:, 3], x[:, 0] * x[:, 0] - x[:, 3]], 1)


def test_towards_a_tolerance_the_known_worth_of_nobody_is_used():
    x, background = (torch.randn(rows, 5, generator=GENERATOR, dtype=torch.float64) for rows in (2, 40))
    truth = pellucid.explain(products, x, methods.exact_shapley(removal.marginal(background)), "all")
    there = removal.marginal(background, draws=1)
    method = methods.permutation_shapley(50_000, tolerance=0.05, removal=there)
    scores = []
    for seed in range(12):
        e = pellucid.explain(products, x, method, "all", seed=seed)
        assert e.std_error.max() <= 0.05
        assert e.residual.max() < 1e-12
        assert np.allclose(e.base_values, truth.base_values, atol=1e-14)  # exact, though stand-ins are drawn
        assert (e.values[:, 4] == 0).all()
        assert (e.std_error[:, 4] == 0).all()
        error = np.where(e.std_error > 1e-12, e.std_error, np.inf)  # a single column's share is known exactly
        scores.append((e.values - truth.values) / error)
    # balanced passes over the background leave less than independent draws, for which the errors are
    assert 0.2 < np.sqrt(np.mean(np.square([score[np.abs(score) > 0] for score in scores]))) < 1.2
    plain = methods.permutation_shapley(e.cost["forwards"] // 2, removal=there)
    assert pellucid.explain(products, x, plain, "all").std_error.max() > 1.15 * 0.05  # as much work without it
