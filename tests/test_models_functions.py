"""Plain functions as models."""

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import BadInput, Unsupported, methods
from tests.reference.linear import WEIGHT, Shaped, X


@pytest.mark.parametrize("kind", ["torch", "numpy", "list"])
def test_a_callable_gets_the_kind_the_user_passed(kind):
    seen = []

    def score(x):
        seen.append(type(x))
        return x @ (WEIGHT.T if kind == "torch" else WEIGHT.T.numpy())

    x = {"torch": X, "numpy": X.numpy(), "list": X.tolist()}[kind]
    e = pellucid.explain(score, x, methods.feature_ablation(), target=1)
    np.testing.assert_allclose(e.values, X * WEIGHT[1], rtol=1e-6)
    assert set(seen) == {torch.Tensor if kind == "torch" else np.ndarray}
    scores = pellucid.evaluate(score, e, [pellucid.metrics.deletion(reference=0.0)])
    np.testing.assert_allclose(scores.cells[0].curve[:, -1], 0, atol=1e-6)
    assert set(seen) == {torch.Tensor if kind == "torch" else np.ndarray}
    if kind == "torch":
        np.testing.assert_allclose(pellucid.explain(score, x, "saliency", target=1).values, WEIGHT[1].expand(2, 3))
    else:
        with pytest.raises(Unsupported, match=r"numpy arrays.*feature_ablation\(\) and random_attribution\(\)"):
            pellucid.explain(score, x, methods.saliency())


def test_a_callable_may_not_write_to_the_users_batch():
    x = X.clone()
    pellucid.explain(lambda x: x.mul_(2).sum(1), x, methods.saliency())
    array = X.numpy().copy()

    def halve(x):
        x /= 2
        return x.sum(1)

    e = pellucid.explain(halve, array, methods.feature_ablation())
    assert torch.equal(x, X)
    assert np.array_equal(array, X.numpy())
    np.testing.assert_allclose(e.values, X / 2, rtol=1e-6)


FLOWS_NOT = {
    "detach": lambda x: x.detach().sum(1),
    "numpy of a detached tensor": lambda x: torch.from_numpy(x.detach().numpy().sum(1)),
    "numpy": lambda x: x.numpy().sum(1),
    "list": lambda x: [sum(row) for row in x.tolist()],
    "no grad": torch.no_grad()(lambda x: x.sum(1)),
    "other parameters": lambda x: x.detach() @ nn.Parameter(WEIGHT.T),
    "constant": lambda x: torch.ones(len(x)),
}


@pytest.mark.parametrize("module", [False, True])
@pytest.mark.parametrize("score", FLOWS_NOT.values(), ids=FLOWS_NOT)
def test_gradient_methods_refuse_where_no_gradient_flows(score, module):
    if module:
        net = Shaped(score, net=nn.Identity()).eval()
        if isinstance(score(X), list):
            pytest.skip("a module returns tensors")
    else:
        net = score
    for method in (methods.saliency(), methods.integrated_gradients(steps=2)):
        with pytest.raises(Unsupported, match=r"feature_ablation\(\) and random_attribution\(\)"):
            pellucid.explain(net, X, method, target=0)
    e = pellucid.explain(net, X, methods.feature_ablation(), target=0)
    expected = X * WEIGHT[0] if score is FLOWS_NOT["other parameters"] else X * (score is not FLOWS_NOT["constant"])
    np.testing.assert_allclose(e.values, expected, atol=1e-6)


def test_outputs_of_callables_may_be_frames_lists_and_tuples():
    import pandas as pd

    expected = (X @ WEIGHT.T).numpy()
    shapes = (lambda y: pd.DataFrame(y), lambda y: y.tolist(), lambda y: (y, "more"), lambda y: {"scores": y, "n": 3})
    for shape in shapes:
        model = pellucid.wrap(lambda x, shape=shape: shape(x @ WEIGHT.T.numpy()))
        e = pellucid.explain(model, X.numpy(), methods.feature_ablation(), target="all")
        np.testing.assert_allclose(e.outputs, expected, rtol=1e-6)
    with pytest.raises(BadInput, match="dtype <U"):
        pellucid.explain(lambda x: np.array(["cat"] * len(x)), X.numpy(), "feature_ablation")
    with pytest.raises(BadInput, match="return"):
        pellucid.explain(lambda x: None, X.numpy(), "feature_ablation")
