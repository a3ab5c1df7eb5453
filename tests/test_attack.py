"""The smallest perturbation of some features that changes a prediction: closed forms, bounds, bad input."""

import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import attack, data

DUAL = {1: math.inf, 2: 2, math.inf: 1}


def linear(classes, features, seed=0):
    weights = torch.randn(classes, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return weights, pellucid.wrap(lambda x: x @ weights.T, scale="logit")


def inputs(rows, features, seed=1):
    return torch.rand(rows, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(*shape, seed=2):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.5


def plane_distance(weights, x, free, norm):
    """The closed form without a box: the least margin / dual norm of the free part of a difference of weights."""
    z = x @ weights.T
    radius = torch.full(free.shape[:2], math.inf, dtype=torch.float64)
    for b, m in np.ndindex(*free.shape[:2]):
        own = int(z[b].argmax())
        for rival in range(len(weights)):
            slope = (weights[rival] - weights[own]) * free[b, m]
            size = torch.linalg.vector_norm(slope, DUAL[norm])
            if rival != own and size > 0:
                radius[b, m] = min(radius[b, m], (z[b, own] - z[b, rival]) / size)
    return radius.numpy()


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_linear_models_have_the_distance_to_the_nearest_plane(norm, classes):
    weights, model = linear(classes, 9)
    x, free = inputs(6, 9), masks(6, 4, 9)
    free[..., 0] = True
    r = attack.minimal_radius(model, x, free, norm=norm)
    np.testing.assert_allclose(r.radius, plane_distance(weights, x, free, norm), rtol=1e-3)
    # What comes back is inside the mask, of that size, and of another class.
    moved = torch.from_numpy(r.adversarial) - x.unsqueeze(1)
    assert bool((moved[~free] == 0).all())
    np.testing.assert_allclose(torch.linalg.vector_norm(moved, norm, dim=2), r.radius, rtol=1e-9)
    own = (x @ weights.T).argmax(1, keepdim=True)
    assert bool(((torch.from_numpy(r.adversarial) @ weights.T).argmax(2) != own).all())


def test_a_box_costs_what_the_clipped_coordinates_no_longer_give():
    def model(x):
        return torch.stack([3 * x[:, 0] + 4 * x[:, 1], torch.ones(len(x), dtype=x.dtype)], 1)

    model = pellucid.wrap(model, scale="logit", bounds=(0.0, 1.0))
    x = torch.tensor([[1.0, 0.25]], dtype=torch.float64)
    # Margin 3: the second coordinate can give 1, so the first must give 2 and moves by 2/3.
    r = attack.minimal_radius(model, x, torch.ones(1, 2, dtype=torch.bool))
    assert r.found.all()
    assert r.radius[0] == pytest.approx(math.hypot(2 / 3, 0.25), rel=1e-3)


def test_a_feature_at_its_bound_cannot_help():
    weights, x = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.5, 0.0]])
    free = torch.tensor([[False, True]])
    boxed = pellucid.wrap(lambda x: x @ weights.T, scale="logit", bounds=(0.0, 1.0))
    r = attack.minimal_radius(boxed, x, free)
    assert not r.found[0]
    assert math.isinf(r.radius[0])
    np.testing.assert_array_equal(r.adversarial[0], x[0].numpy())
    unbounded = pellucid.wrap(lambda x: x @ weights.T, scale="logit")
    assert attack.minimal_radius(unbounded, x, free).radius[0] == pytest.approx(0.5, rel=1e-3)


def test_nothing_free_is_proven_infinite_without_a_model_call():
    _, model = linear(3, 4)
    r = attack.minimal_radius(model, inputs(2, 4), torch.zeros(2, 4, dtype=torch.bool))
    assert math.isinf(r.radius.min())
    assert math.isinf(r.lower.min())
    assert r.cost["backwards"] == 0


def test_a_tie_is_no_change():
    # Moving along the free coordinate brings both classes level and no further.
    def model(x):
        return torch.stack([x[:, 0], x[:, 0] - torch.relu(1 - x[:, 1])], 1)

    r = attack.minimal_radius(
        pellucid.wrap(model, scale="logit"), torch.tensor([[1.0, 0.0]]), torch.tensor([[False, True]])
    )
    assert not r.found[0]


def test_margin_finds_the_pertinent_negative_that_the_released_loss_cannot_see():
    model = pellucid.wrap(lambda x: x, scale="logit")
    x, free = torch.tensor([[2.0, 1.0]]), torch.tensor([[False, True]])
    assert attack.minimal_radius(model, x, free, method=attack.pgd()).radius[0] == pytest.approx(1, abs=2e-3)
    assert math.isinf(attack.minimal_radius(model, x, free, method=attack.pgd(loss="logit")).radius[0])


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_pgd_agrees_with_the_closed_form(norm):
    weights, model = linear(2, 5)
    x, free = inputs(4, 5), masks(4, 2, 5)
    free[..., 0] = True
    r = attack.minimal_radius(model, x, free, method=attack.pgd(steps=200), norm=norm)
    np.testing.assert_allclose(r.radius, plane_distance(weights, x, free, norm), rtol=5e-3)


def test_a_class_to_be_reached():
    weights, model = linear(3, 6)
    x = inputs(5, 6)
    z = x @ weights.T
    second = z.argsort(1)[:, 1]
    free = torch.ones(5, 6, dtype=torch.bool)
    r = attack.minimal_radius(model, x, free, target=second)
    reached = (torch.from_numpy(r.adversarial) @ weights.T).argmax(1)
    assert reached.tolist() == second.tolist()
    assert bool((r.radius >= attack.minimal_radius(model, x, free).radius * (1 - 1e-3)).all())
    with pytest.raises(pellucid.BadInput, match="already predicted"):
        attack.minimal_radius(model, x, free, target=z.argmax(1))


def test_a_network_on_real_digits():
    net, digits = data.digits_cnn(), data.digits("test", 4)
    model = pellucid.wrap(net, bounds=(0.0, 1.0))
    small = masks(4, 1, 1, 28, 28)
    free = torch.cat([small, small | masks(4, 1, 1, 28, 28, seed=3)], 1)
    r = attack.minimal_radius(model, digits.x, free)
    slow = attack.minimal_radius(model, digits.x, free, method=attack.pgd(steps=40))
    assert r.found.all()
    assert bool((r.radius[:, 0] >= r.radius[:, 1]).all()), "more free features cannot make it harder"
    assert np.median(r.radius / slow.radius) < 1.005
    assert r.adversarial.min() >= 0
    assert r.adversarial.max() <= 1
    # Confirming a radius that is known costs less than finding it, and can only lower it.
    both = attack.minimal_radius(model, digits.x, free, method=[attack.minimum_norm(), attack.pgd(steps=40)])
    assert bool((both.radius <= r.radius).all())
    assert both.cost["backwards"] < slow.cost["backwards"]


def test_a_radius_that_is_too_large_is_walked_down_from_what_pgd_finds_inside_it():
    net, digits = data.digits_cnn(), data.digits("test", 1)
    model, free = pellucid.wrap(net, bounds=(0.0, 1.0)), masks(1, 3, 1, 28, 28)
    weak, tries = attack.minimum_norm(3), attack.pgd(steps=20, restarts=2)
    first = attack.minimal_radius(model, digits.x, free, method=weak)
    bisected = attack.minimal_radius(model, digits.x, free, method=tries)
    both = attack.minimal_radius(model, digits.x, free, method=[weak, tries])
    assert np.median(first.radius / bisected.radius) > 1.02
    assert np.median(both.radius / bisected.radius) < 1.005
    assert bool((both.radius <= first.radius).all())
    assert both.cost["backwards"] < 0.6 * bisected.cost["backwards"]
    with torch.no_grad():
        reached = net(torch.from_numpy(both.adversarial).flatten(0, 1)).argmax(1).reshape(1, 3)
    assert bool((reached != torch.from_numpy(both.own)[:, None]).all())


def test_confirmation_goes_on_from_what_it_found():
    """Three ways out, at 3, 2 and 1: the widest slope leads to the farthest, and of the others some tries find the
    nearer first, some the nearest. Only tries inside what a try has found reach the nearest from everywhere."""

    def cones(x):
        ways = [(0.1, 1.0, (4.0, 0.0)), (1.0, 0.5, (-2.5, 0.0)), (3.0, 0.3, (0.0, 1.3))]
        tops = [slope * (wide - (x - torch.tensor(at).to(x)).norm(dim=1)) for slope, wide, at in ways]
        return torch.stack([torch.zeros(len(x)).to(x), torch.stack(tops, 1).amax(1)], 1)

    x, free = torch.zeros(24, 2, dtype=torch.float64), torch.ones(24, 2, dtype=torch.bool)
    model = pellucid.wrap(cones, scale="logit")
    straight = attack.minimal_radius(model, x, free, method=attack.minimum_norm())
    np.testing.assert_allclose(straight.radius, 3, atol=0.01)
    tried = attack.minimal_radius(model, x, free, method=[attack.minimum_norm(), attack.pgd(steps=40, restarts=40)])
    assert (tried.radius < 1.1).mean() > 0.9


def test_tries_that_cannot_arrive_end_early_and_lose_nothing(monkeypatch):
    digits, free = data.digits("test", 1), masks(1, 2, 1, 28, 28)
    model = pellucid.wrap(data.digits_cnn(), bounds=(0.0, 1.0))
    method = [attack.minimum_norm(20), attack.pgd(steps=100, restarts=2)]
    early = attack.minimal_radius(model, digits.x, free, method=method)
    monkeypatch.setattr(sys.modules["pellucid.attack.pgd"], "_SETTLED", 2)  # never
    late = attack.minimal_radius(model, digits.x, free, method=method)
    np.testing.assert_allclose(early.radius, late.radius, rtol=0.01)
    assert early.cost["backwards"] < 0.85 * late.cost["backwards"]


@pytest.mark.parametrize("power", [2, 3])
def test_a_boundary_that_is_no_plane_is_met_to_the_tolerance(power):
    def model(x):
        return torch.stack([torch.full_like(x[:, 0], 0.3), (x - 0.2).norm(dim=1) ** power], 1)

    x, free = torch.full((1, 5), 0.2, dtype=torch.float64), torch.ones(1, 5, dtype=torch.bool)
    r = attack.minimal_radius(pellucid.wrap(model, scale="logit"), x + 0.1, free)
    wanted = 0.3 ** (1 / power) - 0.1 * math.sqrt(5)
    assert wanted <= r.radius[0] <= wanted + 1e-3
    assert r.cost["forwards"] < 70  # 40 of the walk


def test_one_column_stands_for_two_classes():
    net = nn.Sequential(nn.Linear(3, 1, dtype=torch.float64)).eval()
    x, free = inputs(4, 3), torch.ones(4, 3, dtype=torch.bool)
    with torch.no_grad():
        wanted = (net(x)[:, 0].abs() / net[0].weight.norm()).numpy()
    r = attack.minimal_radius(pellucid.wrap(net, scale="logit"), x, free)
    np.testing.assert_allclose(r.radius, wanted, rtol=1e-3)
    with pytest.raises(pellucid.Unsupported, match="no prediction to change"):
        attack.minimal_radius(net, x, free)


def test_batches_and_repeats_agree():
    net, digits = data.digits_cnn(), data.digits("test", 3)
    model = pellucid.wrap(net, bounds=(0.0, 1.0))
    free, method = masks(3, 1, 28, 28), attack.pgd(steps=5, restarts=3)
    whole = attack.minimal_radius(model, digits.x, free, method=method)
    again = attack.minimal_radius(model, digits.x, free, method=method)
    np.testing.assert_array_equal(whole.radius, again.radius)
    small = attack.minimal_radius(model, digits.x, free, method=method, run=pellucid.Run(batch_size=1))
    np.testing.assert_allclose(whole.radius, small.radius, rtol=0.02)


@pytest.mark.parametrize(
    ("free", "message"),
    [
        (np.ones((2, 3), bool), "free must have the shape of x"),
        (np.ones((2, 4)), "free must be bool"),
        (np.ones((3, 4), bool), "free must have the shape of x"),
        (np.ones((2, 0, 4), bool), "free must have the shape of x"),
    ],
    ids=["width", "dtype", "rows", "no mask"],
)
def test_bad_masks(free, message):
    _, model = linear(2, 4)
    with pytest.raises(pellucid.BadInput, match=message):
        attack.minimal_radius(model, inputs(2, 4), free)


def test_bad_settings():
    weights, model = linear(2, 4)
    x, free = inputs(2, 4), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(pellucid.BadInput, match="norm must be"):
        attack.minimal_radius(model, x, free, norm=3)
    with pytest.raises(pellucid.BadInput, match="expected an attack"):
        attack.minimal_radius(model, x, free, method="pgd")
    with pytest.raises(pellucid.BadInput, match="loss must be"):
        attack.pgd(loss="hinge")
    with pytest.raises(pellucid.BadInput, match="outside the model's bounds"):
        attack.minimal_radius(pellucid.wrap(lambda x: x @ weights.T, scale="logit", bounds=(0, 0.5)), x, free)
    with pytest.raises(pellucid.Unsupported, match="needs gradients"):
        attack.minimal_radius(lambda x: np.asarray(x) @ weights.numpy().T, x.numpy(), free.numpy(), method=attack.pgd())
