"""Sets grown by robustness: closed forms, pairs that matter only together, and what the released code does."""

import itertools
import math

import numpy as np
import pytest
import torch

import pellucid
from pellucid import attack, data, games, methods, players

CRITERIA = ("irrelevant", "relevant")


def linear(weights):
    weights = torch.as_tensor(weights, dtype=torch.float64)
    return pellucid.wrap(lambda x: torch.stack([x @ weights, torch.zeros(len(x), dtype=x.dtype)], 1), scale="logit")


def pair_and_singles(n, sign=1):
    """Two players are worth much together and nothing alone; three others are worth a little each."""

    def value(s):
        s = s.double()
        return sign * (2 * s[:, 0] * s[:, 1] + 0.3 * s[:, 2] + 0.25 * s[:, 3] + 0.1 * s[:, 4])

    return games.FunctionGame(n, value)


def ranking(e):
    return (-e.values[0]).argsort().tolist()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("name", ["greedy", "greedy_as", "one_step_banzhaf"])
def test_linear_models_are_ordered_by_the_size_of_their_weights(name, criterion):
    weights = [3.0, -1.0, 2.0, 0.5, 0.1, -4.0]
    x = torch.rand(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = {} if name == "one_step_banzhaf" else {"step": 1, "fraction": 1.0}
    e = pellucid.explain(linear(weights), x, getattr(methods, name)(criterion, **step))
    for row in range(2):
        assert (-e.values[row]).argsort().tolist() == np.argsort(-np.abs(weights)).tolist()
    assert sorted(e.values[0].tolist()) == pytest.approx([(i + 1) / 6 for i in range(6)])


@pytest.mark.parametrize("n", [6, 14])
def test_a_pair_that_matters_only_together_is_found_by_sets_and_missed_by_singles(n):
    found = pellucid.play(pair_and_singles(n), methods.greedy_as(step=1, subsets=400))
    assert set(ranking(found)[:2]) == {0, 1}
    missed = pellucid.play(pair_and_singles(n), methods.greedy(step=1))
    assert ranking(missed)[0] == 2
    # To be made small, the same worth with its sign turned.
    small = pellucid.play(pair_and_singles(n, sign=-1), methods.greedy_as("relevant", step=1, subsets=400))
    assert set(ranking(small)[:2]) == {0, 1}


def test_an_xor_like_pair_of_a_model():
    """Fixing both of the first two features leaves nothing that changes the class; fixing one leaves the other."""

    def model(x):
        score = torch.maximum(1 - x[:, 0], 1 - x[:, 1]) + 0.3 * (1 - x[:, 2]) - 0.9
        return torch.stack([-score, score], 1)

    x = torch.ones(1, 4, dtype=torch.float64)
    wrapped = pellucid.wrap(model, scale="logit", bounds=(0.0, 1.0))
    sets = pellucid.explain(wrapped, x, methods.greedy_as(step=1, fraction=0.5))
    assert set(ranking(sets)[:2]) == {0, 1}
    singles = pellucid.explain(wrapped, x, methods.greedy(step=1, fraction=0.5))
    assert ranking(singles)[0] == 2


def test_all_sets_with_inclusion_a_half_are_banzhaf_values():
    def value(s):
        s = s.double()
        return s[:, 0] + 2 * s[:, 1] * s[:, 2] - s[:, 0] * s[:, 3] * s[:, 4] + 0.5 * s[:, 4]

    def worth(chosen):
        s = torch.zeros(1, 5, dtype=torch.bool)
        s[0, list(chosen)] = True
        return float(value(s))

    banzhaf = []
    for i in range(5):
        others = [j for j in range(5) if j != i]
        sets = itertools.chain.from_iterable(itertools.combinations(others, size) for size in range(5))
        banzhaf.append(np.mean([worth((*s, i)) - worth(s) for s in sets]))
    e = pellucid.play(games.FunctionGame(5, value), methods.one_step_banzhaf())
    np.testing.assert_allclose(e.details["scores"][0], banzhaf, atol=1e-9)


def test_a_perturbation_says_whether_presence_or_absence_matters():
    x = torch.tensor([[0.5, 0.5, 0.5]], dtype=torch.float64)
    e = pellucid.explain(linear([2.0, -1.0, 0.0]), x, methods.greedy(step=1, fraction=0.67))
    np.testing.assert_array_equal(e.details["pertinent"][0], [1, -1, 0])
    moved = e.details["perturbation"][0]
    assert moved[0] < 0 < moved[1]
    assert moved[2] == 0
    assert e.details["chosen"][0].tolist() == [True, True, False]


def test_players_move_together_and_no_success_counts_the_box():
    net, digits = data.digits_cnn(), data.digits("test", 1)
    model = pellucid.wrap(net, bounds=(0.0, 1.0))
    e = pellucid.explain(model, digits.x, methods.greedy_as(fraction=0.5, step=2, subsets=60), players=players.grid(4))
    assert e.values.shape == (1, 16)
    assert e.details["chosen"].sum() == 8
    fixed = torch.from_numpy(e.map() >= np.sort(e.map().ravel())[-8 * 49]).unsqueeze(1)
    radius = attack.minimal_radius(model, digits.x, ~fixed).radius[0]
    assert radius == pytest.approx(float(e.details["radius"][0]), rel=0.2)
    generator = torch.Generator().manual_seed(0)
    random = []
    for _ in range(10):
        chosen = torch.randperm(16, generator=generator)[:8]
        free = torch.ones(4, 4, dtype=torch.bool).flatten().index_fill(0, chosen, False).reshape(1, 1, 4, 4)
        free = free.repeat_interleave(7, 2).repeat_interleave(7, 3)
        random.append(attack.minimal_radius(model, digits.x, free).radius[0])
    assert radius > max(random)
    every = pellucid.explain(
        model, digits.x, methods.greedy_as(fraction=1.0, step=8, subsets=40), players=players.grid(4)
    )
    far = torch.maximum(digits.x, 1 - digits.x)
    assert every.details["radius"][0] == pytest.approx(float(far.norm()), rel=1e-5)


def test_why_this_class_and_not_that():
    weights = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, -4.0]], dtype=torch.float64)
    model = pellucid.wrap(lambda x: x @ weights.T, scale="logit")
    x = torch.tensor([[1.0, 0.2, 0.5]], dtype=torch.float64)
    first = pellucid.explain(model, x, methods.greedy_as(step=1, fraction=1.0, against=1))
    assert ranking(first) == [0, 1, 2]
    other = pellucid.explain(model, x, methods.greedy_as(step=1, fraction=1.0, against=2))
    assert ranking(other)[0] == 2
    with pytest.raises(pellucid.BadInput, match="already predicted"):
        pellucid.explain(model, x, methods.greedy_as(against=0))
    with pytest.warns(pellucid.Unreliable, match="predicted as class 0, not 1"):
        pellucid.explain(model, x, methods.greedy(step=1), target=1)


def test_released_settings_count_what_no_attack_reached_as_the_norm_of_x():
    model = pellucid.wrap(lambda x: torch.stack([1 + x[:, 0], 0 * x[:, 0]], 1), scale="logit", bounds=(0.0, 1.0))
    x = torch.tensor([[0.6, 0.8]], dtype=torch.float64)  # no point of the box changes this prediction
    released = pellucid.explain(model, x, methods.greedy_as_released(subsets=8, steps=3))
    assert released.details["radius"][0] == pytest.approx(1.0)
    ours = pellucid.explain(model, x, methods.greedy_as(subsets=8))
    assert ours.details["radius"][0] == pytest.approx(math.hypot(0.6, 0.8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": "both"}, "criterion must be"),
        ({"fraction": 0.0}, "fraction must be"),
        ({"step": 0}, "step must be"),
        ({"step": 1.5}, "step must be"),
        ({"subsets": 1}, "subsets must be"),
        ({"inclusion": 1.0}, "inclusion must be"),
        ({"unreachable": "far"}, "unreachable must be"),
    ],
    ids=str,
)
def test_bad_settings(arguments, message):
    with pytest.raises(pellucid.BadInput, match=message):
        methods.greedy_as(**arguments)


def test_what_has_no_decision_or_no_gradient_is_refused_by_name():
    x = torch.rand(2, 3)
    with pytest.raises(pellucid.Unsupported, match="no prediction to change"):
        pellucid.explain(lambda x: x.sum(1), x, methods.greedy_as())
    with pytest.raises(pellucid.Unsupported, match="gradients"):
        pellucid.explain(
            lambda x: np.stack([x.sum(1), 0 * x.sum(1)], 1), x.numpy(), methods.greedy_as(attack=attack.pgd())
        )


def test_a_sparse_counterfactual_of_a_linear_model():
    """All features: distance m / ||w||. One alone: m / max |w|; a price above the difference makes that the answer."""
    weights = torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    x = torch.ones(1, 4, dtype=torch.float64)
    margin = float(weights.sum())
    dense = pellucid.explain(linear(weights), x, methods.counterfactual_cfx(price=0))
    np.testing.assert_allclose(dense.values[0], -margin * weights / weights.square().sum(), rtol=1e-3)
    sparse = pellucid.explain(linear(weights), x, methods.counterfactual_cfx(price=10))
    np.testing.assert_allclose(sparse.values[0], [-margin / 3, 0, 0, 0], rtol=1e-3)
    assert sparse.details["changed"][0].tolist() == [True, False, False, False]
    stuck = pellucid.wrap(lambda x: torch.stack([1 + x[:, 0], 0 * x[:, 0]], 1), scale="logit", bounds=(0.0, 1.0))
    none = pellucid.explain(stuck, x[:, :2], methods.counterfactual_cfx())
    assert not none.details["found"][0]
    assert not none.values.any()


def test_a_sparse_counterfactual_of_a_digit_changes_its_class_with_few_pixels():
    net, digits = data.digits_cnn(), data.digits("test", 3)
    model = pellucid.wrap(net, bounds=(0.0, 1.0))
    e = pellucid.explain(model, digits.x, methods.counterfactual_cfx())
    assert e.details["found"].all()
    moved = digits.x + torch.from_numpy(e.values).reshape(digits.x.shape)
    with torch.no_grad():
        assert bool((net.eval()(moved.clamp(0, 1)).argmax(1) != net(digits.x).argmax(1)).all())
    assert (e.details["changed"].sum(1) < 200).all()
