"""aggregate: mean ranks by hand, explanations of different shapes, and one more explanation that works like any."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import rankdata
from torch import nn

import pellucid
from pellucid import BadInput, methods, metrics, players


def rows(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def table_net(columns=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(columns, 6), nn.Tanh(), nn.Linear(6, 3)).double().eval()


def picture_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).double().eval()


def test_the_mean_rank_by_hand():
    weight = torch.tensor([3.0, -4.0, 1.0, 0.0], dtype=torch.float64)
    x = torch.ones(1, 4, dtype=torch.float64)
    contribution = pellucid.explain(lambda z: z @ weight, x, "input_x_gradient")  # ranks 3, 0, 2, 1
    slope = pellucid.explain(lambda z: z @ weight, x, "saliency")  # by size: ranks 2, 3, 1, 0
    e = pellucid.aggregate([contribution, slope])
    assert np.allclose(e.values, np.array([[5, 3, 3, 1]]) / 2 / 3)
    assert e.method["name"] == "aggregate"
    assert [m["name"] for m in e.method["fields"]["of"]] == ["input_x_gradient", "saliency"]


def test_ties_share_their_mean_rank():
    weight = torch.tensor([2.0, 0.0, 0.0, 0.0, 5.0], dtype=torch.float64)
    e = pellucid.explain(lambda z: z @ weight, torch.ones(1, 5, dtype=torch.float64), "input_x_gradient")
    assert np.allclose(pellucid.aggregate([e, e]).values, np.array([[3, 1, 1, 1, 4]]) / 4)


def test_pictures_by_the_slow_way():
    net, x = picture_net(), rows(3, 2, 6, 6)
    each = [pellucid.explain(net, x, m, target=[0, 1, 2]) for m in ("saliency", "input_x_gradient", "smooth_grad")]
    e = pellucid.aggregate(each)
    assert e.values.shape == (3, 6, 6)
    assert e.dims == ("height", "width")
    assert (e.map() == e.values).all()
    for row in range(3):
        scores = [np.abs(each[0].values[row]).sum(0), each[1].values[row].sum(0), np.abs(each[2].values[row]).sum(0)]
        ranks = [rankdata(score.ravel()) - 1 for score in scores]
        assert np.allclose(e.values[row].ravel(), np.mean(ranks, axis=0) / 35)
    assert e.values.min() >= 0
    assert e.values.max() <= 1
    spread = np.mean([np.std([rankdata(s.ravel()) for s in (
        np.abs(each[0].values[i]).sum(0), each[1].values[i].sum(0), np.abs(each[2].values[i]).sum(0))], axis=0) / 35
        for i in range(3)])  # fmt: skip
    assert e.details["agreement_spread"] == pytest.approx(spread)


def test_different_shapes_meet_at_the_positions():
    net, x = picture_net(), rows(2, 2, 6, 6)
    pixel = pellucid.explain(net, x, "input_x_gradient", target=0)
    cell = pellucid.explain(net, x, "feature_ablation", target=0, players=players.grid(3))
    layer = pellucid.explain(net, x, methods.grad_cam("1"), target=0)
    for order in ([pixel, cell, layer], [cell, layer, pixel]):
        e = pellucid.aggregate(order)
        assert e.values.shape == (2, 6, 6)
        assert e.players is None
        ranks = [rankdata(m.reshape(2, -1), axis=1) - 1 for m in (pixel.values.sum(1), cell.map(), layer.map())]
        assert np.allclose(e.values.reshape(2, -1), np.mean(ranks, axis=0) / 35)


def test_common_players_stay_players():
    frame = pd.DataFrame(rows(4, 4).numpy(), columns=["a", "b", "c", "d"])
    net = table_net()

    def model(given):
        return net(torch.tensor(given.to_numpy())).detach().numpy()

    by = {"one": ["a", "b"], "two": ["c"], "three": ["d"]}
    each = [pellucid.explain(model, frame, m, target=0, players=by) for m in ("feature_ablation", "random_attribution")]
    e = pellucid.aggregate(each)
    assert e.values.shape == (4, 3)
    assert e.feature_names == ("one", "two", "three")
    assert np.allclose(e.values, np.mean([rankdata(o.values, axis=1) - 1 for o in each], axis=0) / 2)
    mixed = pellucid.aggregate([each[0], pellucid.explain(model, frame, "feature_ablation", target=0)])
    assert mixed.values.shape == (4, 4)
    assert mixed.feature_names == ("a", "b", "c", "d")


def test_players_that_differ_by_row():
    net, x = table_net(), rows(3, 4)
    by = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [1, 0, 0, -1]])
    each = [pellucid.explain(net, x, m, target=0, players=by) for m in ("feature_ablation", "input_x_gradient")]
    e = pellucid.aggregate(each)
    assert np.allclose(e.values, np.mean([rankdata(o.values, axis=1) - 1 for o in each], axis=0))
    assert np.allclose(e[1].map(), e.map()[1:2])
    pellucid.evaluate(net, e, metrics.insertion(0.0), run=pellucid.Run(batch_size=1))


def test_it_is_one_more_explanation(tmp_path):
    net, x = picture_net(), rows(3, 2, 6, 6)
    each = [pellucid.explain(net, x, m, target=[0, 1, 2]) for m in ("saliency", "input_x_gradient")]
    e = pellucid.aggregate(each)
    e.save(tmp_path / "e.npz")
    again = pellucid.load(tmp_path / "e.npz")
    assert again == e
    assert e.base_values is None
    assert e.residual is None
    assert e.std_error is None
    assert e.cost["forwards"] == sum(o.cost["forwards"] for o in each)
    assert (e.outputs == each[0].outputs).all()
    assert e.target == each[0].target
    scores = pellucid.evaluate(
        net, {"one": each[0], "all": e, "stored": again}, [metrics.insertion(0.0), "completeness"]
    )
    assert scores.cells[1].curve.shape == (3, 13)
    assert (scores.cells[1].curve == scores.cells[2].curve).all()
    assert scores.cell("all", "completeness").status == "promises nothing"
    assert not scores.cell("all", "completeness").control
    assert len(e.top(3)) == 9
    both = pellucid.aggregate([e, each[0]])  # and can be put together again
    assert both.values.shape == e.values.shape


def test_it_keeps_the_keys_of_random_draws():
    net, x = picture_net(), rows(4, 2, 6, 6)
    each = [pellucid.explain(net, x, m, target=0) for m in ("saliency", "input_x_gradient")]
    whole = pellucid.evaluate(net, pellucid.aggregate(each), "insertion").cells[0].curve
    part = pellucid.evaluate(net, pellucid.aggregate([o[2:] for o in each]), "insertion").cells[0].curve
    assert np.allclose(part, whole[2:], atol=1e-12)


def test_what_cannot_be_put_together():
    net, x = table_net(), rows(3, 4)
    e = pellucid.explain(net, x, "saliency", target=0)
    with pytest.raises(BadInput, match="at least two explanations, got 1"):
        pellucid.aggregate([e])
    with pytest.raises(BadInput, match="different rows"):
        pellucid.aggregate([e, pellucid.explain(net, x + 0.1, "saliency", target=0)])
    with pytest.raises(BadInput, match="different rows"):
        pellucid.aggregate([e, e[:2]])
    with pytest.raises(BadInput, match="different targets"):
        pellucid.aggregate([e, pellucid.explain(net, x, "saliency", target=1)])
    with pytest.raises(BadInput, match="several outputs"):
        pellucid.aggregate([pellucid.explain(net, x, "saliency", target="all")] * 2)
    with pytest.raises(BadInput, match="several outputs"):
        pellucid.aggregate([pellucid.explain(net, x, "saliency", target="all", players=[0, 0, 1, 1])] * 2)
    with pytest.raises(BadInput, match="expected explanations, got ndarray"):
        pellucid.aggregate([e.values, e.values])
    with pytest.raises(BadInput, match="expected explanations, got ndarray"):
        pellucid.aggregate([e, e.values])
