"""Settings of the wrong kind: every recipe refuses them by name when they are given, and none with a raw error."""

import inspect
import typing

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

import pellucid
from pellucid import BadInput, Unsupported, attack, generative, methods, metrics, players, removal, spaces

X = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
NET = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(72, 2)).eval()
NEEDED = {
    "background": X.expand(20, -1, -1, -1),
    "truth": torch.ones(1, 64, dtype=torch.bool),
    "estimator": LinearRegression(),
    "X": np.eye(4),
    "y": np.arange(4.0),
    "rows": 2,
    "length": 2,
    "model": NET,
    "layer": "1",
    "encode": torch.Tensor.clone,
    "decode": torch.Tensor.clone,
    "translator": torch.add,
    "names": ["smile"],
    "read": torch.Tensor.clone,
}
ROOMS = {
    "": (*methods.CATALOGUE, *metrics.CATALOGUE),
    "attack.": (attack.minimum_norm, attack.pgd, attack.boundary, attack.certified),
    "players.": (players.grid, players.windows, players.segments),
    "removal.": (removal.blur, removal.marginal, removal.independent, removal.gaussian, removal.nearest),
    "generative.": (generative.beta_tcvae, generative.supervised_vae, generative.joint_vae, generative.translator),
    "spaces.": (spaces.fourier, spaces.wavelets, spaces.layer, spaces.decoder, spaces.attributes),
}
RECIPES = [(room, recipe) for room, recipes in ROOMS.items() for recipe in recipes]
NONSENSE = {
    "a text": "nonsense",
    "None": None,
    "a list": [1j],
    "a number": 1.5,
    "a truth": True,
    "an array": np.ones((2, 3)),
    "a tensor": torch.ones(3, 2),
    "an object": object(),
    "a function": lambda: None,
}


def settings(recipe):
    """The parameters of a recipe whose annotations say what they are."""
    hints = typing.get_type_hints(recipe)
    return {name: hints[name] for name in inspect.signature(recipe).parameters if hints[name] is not typing.Any}


def may_be(hint, label):
    """Whether the annotation allows this nonsense, by the words of the annotation."""
    words = str(hint)
    allowed = {
        "a text": "str" in words.replace("Sequence[str]", "") or "Callable" in words,
        "None": "None" in words,
        "a number": "float" in words,
        "a truth": "bool" in words,
        "a function": "Callable" in words or "Translator" in words or "Reader" in words,
    }
    return allowed.get(label, False)


def needed(recipe):
    empty = inspect.Parameter.empty
    return {name: NEEDED[name] for name, p in inspect.signature(recipe).parameters.items() if p.default is empty} | (
        {"read": NEEDED["read"]} if recipe is spaces.attributes else {}
    )


@pytest.mark.parametrize(("room", "recipe"), RECIPES, ids=[room + recipe.__name__ for room, recipe in RECIPES])
def test_every_setting_of_every_recipe_refuses_what_is_of_the_wrong_kind(room, recipe):
    recipe(**needed(recipe))
    for name, hint in settings(recipe).items():
        for label, value in NONSENSE.items():
            if may_be(hint, label):
                continue
            with pytest.raises((BadInput, Unsupported)) as caught:
                recipe(**{**needed(recipe), name: value})
            said = str(caught.value)
            assert name in said, (label, said)
            assert said.startswith((room + recipe.__name__, recipe.__name__)), said


def test_what_is_refused_says_what_was_expected_and_what_came():
    for make, words in (
        (lambda: methods.rise(keep="x"), "rise: keep must be a number, got 'x'"),
        (lambda: methods.kernel_shap(100, tolerance="x"), "kernel_shap: tolerance must be a number or None, got 'x'"),
        (lambda: methods.anchors(threshold=None), "anchors: threshold must be a number, got None"),
        (lambda: methods.kernel_shap(None), "kernel_shap: budget must be a whole number, got None"),
        (lambda: methods.kernel_shap(True), "kernel_shap: budget must be a whole number, got True"),
        (lambda: methods.kernel_shap(10.0), "kernel_shap: budget must be a whole number, got 10.0"),
        (lambda: methods.var_grad(sigma=torch.ones(2)), "var_grad: sigma must be a number, got an array of shape (2,)"),
        (lambda: methods.greedy(attack=1), "greedy: attack must be an Attack, a sequence of Attacks or None, got 1"),
        (lambda: metrics.insertion(fractions=0.5), "insertion: fractions must be a sequence of numbers, got 0.5"),
        (lambda: spaces.decoder(len, len, tolerance="x"), "spaces.decoder: tolerance must be a number, got 'x'"),
        (lambda: removal.custom(lambda z: z), "removal.custom: expected a function of (z, present), got one of (z)"),
    ):
        with pytest.raises(BadInput) as caught:
            make()
        assert words in str(caught.value)


def test_the_numbers_of_numpy_and_torch_are_numbers():
    assert methods.kernel_shap(np.int64(100), np.float32(0.5)) == methods.kernel_shap(100, 0.5)
    assert methods.rise(torch.tensor(50), keep=np.array(0.25)) == methods.rise(50, keep=0.25)
    assert attack.pgd(np.int32(7)) == attack.pgd(7)


@pytest.mark.parametrize("ask", ["explain", "compare", "evaluate", "minimal_radius"])
@pytest.mark.parametrize("wrong", [3, "x", None, 1.5, object(), len, np.ones(2)], ids=lambda v: type(v).__name__)
def test_questions_refuse_arguments_of_the_wrong_kind(ask, wrong):
    saliency = methods.saliency()
    explanation = pellucid.explain(NET, X, saliency, target=0)
    question, given, optional = {
        "explain": (pellucid.explain, {"model": NET, "x": X, "method": saliency}, {"run", "space"}),
        "compare": (pellucid.compare, {"model": NET, "x": X, "methods": [saliency], "target": 0}, {"run", "metrics"}),
        "evaluate": (pellucid.evaluate, {"model": NET, "explanation": explanation}, {"run", "metrics"}),
        "minimal_radius": (
            attack.minimal_radius,
            {"model": NET, "x": X, "free": torch.ones(X.shape, dtype=torch.bool)},
            {"run", "method"},
        ),
    }[ask]
    needs = {"explain": {"method"}, "compare": set(), "evaluate": {"explanation"}, "minimal_radius": {"free"}}[ask]
    for name in needs | (optional if wrong is not None else set()):
        with pytest.raises(BadInput):
            question(**{**given, name: wrong})
