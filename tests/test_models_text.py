"""Models of text: ids that stay whole, and the outputs of Hugging Face."""

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Unsupported, methods
from tests.reference.linear import Words


@pytest.mark.parametrize("bag", [False, True])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, list])
def test_ids_stay_whole(bag, kind):
    net = Words(bag).eval()
    ids = [[1, 2, 3], [4, 5, 6]]
    x = ids if kind is list else torch.tensor(ids, dtype=kind)
    e = pellucid.explain(net, x, methods.feature_ablation(), target=1)
    effect = (net.words.weight[1:].reshape(2, 3, 4) - net.words.weight[0]) @ net.head.weight[1] / 3
    np.testing.assert_allclose(e.values, effect.detach(), atol=1e-6)
    assert e.dims == ("token",)
    assert e.data.dtype == np.int64
    control = pellucid.explain(net, x, methods.random_attribution(), target=1)
    assert np.unique(control.values).size == 6
    with pytest.raises(Unsupported, match=r"ids.*embeddings.*feature_ablation\(\) and random_attribution\(\)"):
        pellucid.explain(net, x, methods.saliency(), target=1)
    with pytest.raises(BadInput, match="fractions"):
        pellucid.explain(net, x, methods.feature_ablation(np.full(3, 0.5)), target=1)


# ---------------------------------------------------------------- Hugging Face


@pytest.fixture(scope="module")
def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8, id2label={0: "bad", 1: "fair", 2: "good"},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.BertForSequenceClassification(config).eval()


def test_a_hugging_face_classifier_is_explained(bert):
    ids = torch.tensor([[2, 5, 7, 3], [2, 11, 13, 3]])
    e = pellucid.explain(bert, ids, methods.feature_ablation(), target="good")
    assert e.output_names == ("bad", "fair", "good")
    for i in range(4):
        gone = ids.clone()
        gone[:, i] = 0
        with torch.no_grad():
            drop = bert(ids).logits[:, 2] - bert(gone).logits[:, 2]
        np.testing.assert_allclose(e.values[:, i], drop, atol=1e-6)
    with pytest.raises(Unsupported, match="inputs_embeds"):
        pellucid.explain(bert, ids, methods.integrated_gradients())
    vectors = bert.get_input_embeddings()(ids).detach()
    deep = pellucid.explain(
        pellucid.wrap(lambda v: bert(inputs_embeds=v), axis=-1), vectors, methods.integrated_gradients(32), target=2
    )
    assert deep.map().shape == (2, 4)
    assert deep.residual_relative.max() < 1e-3
