"""The five checks behind a verdict, and the verdicts they lead to."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from pellucid import Unreliable, judging, methods, metrics, removal
from pellucid.core.method import Method
from pellucid.core.verdict import Check
from pellucid.metrics.statistics import paired
from pellucid.models.torch import TorchModel
from tests.reference.contestants import (
    FEW,
    NAMES,
    ROWS,
    Backwards,
    Breaks,
    Edges,
    Flat,
    check,
    compared,
    linear_net,
    rows,
    word,
)


def test_beating_random_is_insertion_minus_deletion_against_ten_orders(no_digits):
    c = compared(metrics=FEW)
    up, down = c.scores.metrics
    table = c.tests().set_index(["method", "metric"])
    for name in NAMES:
        net = table.loc[(name, up), "better_by"] + table.loc[(name, down), "better_by"]
        assert check(c, name, 1).figure == pytest.approx(net)
        assert check(c, name, 1).low < net < check(c, name, 1).high


def test_a_comparison_without_a_pair_has_no_first_check(no_digits):
    c = compared(metrics=[metrics.insertion(0.0), metrics.deletion("mean"), metrics.completeness()])
    for number in (1, 3):
        assert not check(c, "saliency", number).applies
    assert word(c, "saliency") == "unclear"


def test_the_pair_that_speaks_is_the_unmatched_one_on_the_grid(no_digits):
    asked = [
        m(r, grid=g) for r in (0.0, "mean", "uniform") for g in (None, 4) for m in (metrics.insertion, metrics.deletion)
    ]
    c = compared(metrics=[*asked, metrics.insertion("mean", read="prob"), metrics.deletion("mean", read="prob")])
    table = c.tests().set_index(["method", "metric"])
    first = sum(
        table.loc[("saliency", f"{m}, mean reference, 4 x 4 patches"), "better_by"] for m in ("insertion", "deletion")
    )
    assert check(c, "saliency", 1).figure == pytest.approx(first)


# ---------------------------------------------------------------- check 2


def test_a_method_that_ignores_the_weights_is_found_out(no_digits):
    c = compared(which=[Edges(), "input_x_gradient", "saliency"], metrics=FEW)
    second = check(c, "edges", 2)
    assert second.passed is False
    assert second.figure == pytest.approx(1)
    assert "hardly changes when the last layer is randomised" in second.reason
    assert word(c, "edges") == "do not trust"
    for name in ("input_x_gradient", "saliency"):
        assert check(c, name, 2).passed is True
        assert check(c, name, 2).high < 0.7


def test_the_class_is_held_fixed_when_weights_are_drawn(no_digits, monkeypatch):
    net, x = linear_net(), rows(ROWS, 1, 8, 8)
    drawn = []

    def record(model, seed):
        drawn.append(original(model, seed))
        return drawn[-1]

    original = TorchModel.randomised
    monkeypatch.setattr(TorchModel, "randomised", record)
    c = compared(net, x, ["input_x_gradient"], target=[0, 1] * 7, metrics=FEW)
    weights = [model._replica[1].weight.detach() for model in drawn]
    assert len(weights) == judging.REDRAWS + judging.REDRAWS  # for the method and for the control
    mine, correlations = net[1].weight.detach(), []
    share = -(-len(x) // judging.REDRAWS)  # each draw of the weights has its own rows
    for row, column in enumerate([0, 1] * 7):
        before, after = ((w[column] * x[row].flatten()).numpy() for w in (mine, weights[row // share]))
        correlations.append(pd.Series(before).corr(pd.Series(after), method="spearman"))
    assert check(c, "input_x_gradient", 2).figure == pytest.approx(np.mean(correlations), abs=1e-6)
    assert not any(torch.equal(weight, mine) for weight in weights)  # drawn under seed 1, as a user may have done


def test_more_rows_than_the_second_check_looks_at(no_digits):
    """A baseline given for each row goes with the rows that are explained again."""
    x = rows(judging.REDRAWN_ROWS + 3, 1, 8, 8)
    own = rows(len(x), 1, 8, 8, seed=7)
    which = {"each": methods.integrated_gradients(steps=4, baseline=own), "one": methods.feature_ablation(own[:1])}
    c = compared(linear_net(), x, which, metrics=FEW)
    assert check(c, "each", 2).passed is True
    assert check(c, "one", 2).passed is True
    assert len(c.explanations["each"]) == len(x)


def test_a_model_without_weights_has_no_second_check(no_digits):
    c = compared(lambda z: z.flatten(1)[:, :3], which=["input_x_gradient"], metrics=FEW)
    assert not check(c, "input_x_gradient", 2).applies


# ---------------------------------------------------------------- check 3


def test_survival_counts_places_under_two_references(no_digits):
    which = ["saliency", "input_x_gradient", Edges(), Backwards(), Flat()]
    asked = [m(r) for r in ("mean", 0.0) for m in (metrics.insertion, metrics.deletion)]
    net, x = linear_net(), rows(ROWS, 1, 8, 8)
    c = compared(net, x, which, metrics=asked, seed=3)
    names = [n for n in c.explanations if n != "random_attribution"]
    nets = []
    for a, b in (c.scores.metrics[:2], c.scores.metrics[2:]):
        nets.append(np.array([c.scores.cell(m, a).values - c.scores.cell(m, b).values for m in names]))
    draws = np.random.default_rng(3).integers(0, ROWS, (1000, ROWS))
    for i, name in enumerate(names):
        kept = 0
        for draw in draws:
            places = [sum(side[j, draw].mean() > side[i, draw].mean() for j in range(len(names))) for side in nets]
            kept += abs(places[0] - places[1]) <= 1
        assert check(c, name, 3).figure == pytest.approx(kept / 1000, abs=0.01)
    assert check(c, "backwards", 3).passed is True  # last under both
    assert not check(c, "random_attribution", 3).applies


def test_a_change_of_read_is_no_change_of_reference(no_digits):
    asked = [m(0.0, read=r) for r in (None, "prob") for m in (metrics.insertion, metrics.deletion)]
    assert not check(compared(metrics=asked), "saliency", 3).applies
    mixed = [*asked, metrics.insertion("mean"), metrics.deletion("mean")]
    assert check(compared(metrics=mixed), "saliency", 3).applies


def test_fewer_than_three_methods_have_no_places_to_change(no_digits):
    assert not check(compared(which=["saliency", "input_x_gradient"]), "saliency", 3).applies


# ---------------------------------------------------------------- check 4


def test_the_tag_is_found_by_those_who_see_it(small_digits):
    c = compared(which=["input_x_gradient", "saliency", Flat(), Edges()], metrics=FEW)
    assert check(c, "input_x_gradient", 4).figure == 1
    assert check(c, "input_x_gradient", 4).passed is True
    assert check(c, "flat", 4).figure == pytest.approx(2 / 36)  # ties share the two places
    assert check(c, "flat", 4).passed is False
    assert word(c, "flat") == "do not trust"
    values = Edges().attribute(SimpleNamespace(z=small_digits.x)).numpy().reshape(9, 36)
    top = np.argsort(-values, 1)[:, :2]
    assert check(c, "edges", 4).figure == pytest.approx(np.isin(top, [7, 8]).mean())


def test_a_method_set_up_for_the_users_pictures_is_set_up_anew(small_digits, monkeypatch):
    from pellucid import data

    monkeypatch.setattr(data, "tagged_digits", lambda split: SimpleNamespace(x=rows(30, 1, 6, 6) * 0.4))
    x = rows(ROWS, 1, 8, 8)
    which = {
        "array": methods.feature_ablation(x[0]),
        "background": methods.feature_ablation(removal.marginal(x[:5])),
        "sampled": methods.feature_ablation(removal.marginal(x, draws=3)),
    }
    c = compared(x=x, which=which, metrics=FEW)
    for name in which:
        assert check(c, name, 4).figure == 1


def test_a_method_that_cannot_run_there_has_no_fourth_check(small_digits):
    c = compared(which=[Breaks(), "saliency"], metrics=FEW)
    fourth = check(c, "breaks", 4)
    assert not fourth.applies
    assert fourth.passed is None
    assert "could not run on the tagged digits" in fourth.reason


def test_two_methods_of_one_name_are_not_mixed_up(small_digits):
    def named(sign):
        @dataclass(frozen=True)
        class Same(Method):
            name: str = "same"

            def attribute(self, question):
                return sign * question.z.unsqueeze(-1)

        return Same()

    for sign, figure in ((1, 1.0), (-1, 0.0)):
        assert check(compared(which=[named(sign)], metrics=FEW), "same", 4).figure == figure


def test_what_happens_on_the_digits_is_not_said_of_the_users_rows(small_digits):
    coarse = methods.integrated_gradients(steps=1, rule="left")
    with pytest.warns(Unreliable) as caught:
        c = compared(which=[coarse], metrics=FEW)
    assert len(caught) == len(c.warnings) == 1  # from the user's rows


def test_without_the_digits_the_check_does_not_apply(no_digits):
    c = compared(metrics=FEW)
    assert not check(c, "saliency", 4).applies
    assert "not installed" in check(c, "saliency", 4).reason


def test_the_real_tag(monkeypatch):
    pytest.importorskip("mlxtend")
    judging._tag_precision.cache_clear()
    c = compared(which=["saliency", "input_x_gradient", Edges()], metrics=FEW)
    assert check(c, "saliency", 4).passed is True
    assert check(c, "input_x_gradient", 4).passed is True
    noise = check(c, "random_attribution", 4)
    assert noise.low <= 8 / 784 + 0.005  # eight bright pixels of 784
    assert noise.high < 0.06
    assert noise.passed is False
    assert check(c, "edges", 4).figure < check(c, "saliency", 4).low  # decoys have edges too


# ---------------------------------------------------------------- verdicts


def outcome(passed, name="a check"):
    applies = passed != "n/a"
    return Check(name, 0.0, 0.0, 0.0, 0.0, passed if applies else None, f"{name} reason", applies)


@pytest.mark.parametrize("first", [True, False, None, "n/a"])
def test_the_word_for_every_outcome(first):
    for outcomes in itertools.product([first], *[[True, False, None, "n/a"]] * 4):
        checks = tuple(outcome(passed, f"check {i}") for i, passed in enumerate(outcomes, 1))
        verdict, reason = judging.verdict_of(checks)
        fails = [outcomes[i] is False for i in (0, 1, 3)]
        if any(fails):
            assert verdict == "do not trust"
            assert reason == f"check {(1, 2, 4)[fails.index(True)]} reason"
        elif first is True and outcomes.count(True) >= 3 and False not in outcomes:
            assert verdict == "trust"
            assert reason == f"{outcomes.count(True)} of 5 checks pass and none fails"
        else:
            assert verdict == "unclear"
            named = int(reason.split()[1])
            assert outcomes[named - 1] is not True
            # A failed check says more than an open one.
            assert outcomes[2] is not False or named == 3
            assert outcomes[4] is not False or outcomes[2] is False or named == 5


def test_an_oracle_is_trusted_and_noise_is_the_control(small_digits):
    net, x = linear_net(), rows(20, 1, 8, 8)
    which = {
        "oracle": methods.feature_ablation(),
        "slopes": "saliency",
        "edges": Edges(),
        "noise": "random_attribution",
    }
    c = compared(net, x, which)
    assert word(c, "oracle") == "trust"
    assert [check(c, "oracle", i).passed for i in (1, 2, 3, 4)] == [True] * 4
    assert word(c, "edges") == "do not trust"
    assert word(c, "noise") == "control"
    verdicts = c.verdicts()
    assert set(verdicts["verdict"]) <= {"trust", "unclear", "do not trust", "control"}
    assert verdicts["reason"].str.len().min() > 10
    for column in ("check", "figure", "threshold", "passed", "applies"):
        assert column in verdicts


def test_noise_under_another_name_is_not_trusted(small_digits):
    @dataclass(frozen=True)
    class Noise(Method):
        draw: int = 0
        name: str = "noise"
        control: ClassVar[bool] = False
        extra: Any = field(default=None, repr=False)

        def attribute(self, question):
            generator = torch.Generator().manual_seed(100 + self.draw)
            return torch.rand(*question.z.shape, 1, generator=generator)

    net, x = linear_net(), rows(20, 1, 8, 8)
    c = compared(net, x, {str(d): Noise(d) for d in range(6)})
    assert all(word(c, str(d)) == "do not trust" for d in range(6))
    assert not any(check(c, str(d), 1).passed for d in range(6))


def test_the_interval_of_the_first_check_decides_with_its_p_value(no_digits):
    """White box: the outcome follows from the figures that are shown."""
    c = compared(which=["saliency", "input_x_gradient", Edges(), Backwards(), Flat()], metrics=FEW)
    up, down = c.scores.metrics
    control = {}
    for name in c.explanations:
        values = c.scores.cell(name, up).values - c.scores.cell(name, down).values
        found = check(c, name, 1)
        control[name] = values.mean() - found.figure
        p = float(found.reason.split("p = ")[1].split()[0])
        expected = True if found.low > 0 and p < 0.05 else False if found.high <= 0 else None
        assert found.passed is expected
    assert np.ptp(list(control.values())) < 1e-6
    assert paired(values, np.zeros(ROWS)).rows == ROWS
