"""Sentences as rows: word vectors of held-out movie sentences, and the words that people call good or bad."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

import pellucid
from pellucid import data, metrics, players
from pellucid.core import removal, rng
from pellucid.core.budget import Progress
from pellucid.core.model import Model
from pellucid.data.readers import Reader
from pellucid.data.sentences import Sentences
from pellucid.evaluating import evaluate
from pellucid.experiments.pieces import Array, Bench, Piece, Shown
from pellucid.experiments.rows import Rows, digest
from pellucid.metrics.units import own

SHORTEST, LONGEST = 8, 30
"""Words of the sentences that are taken: five keywords must leave others."""
BACKGROUND = 100
"""Training sentences that Expected Gradients averages over."""
KEYWORDS = (1, 2, 3, 4, 5)
"""How many of the first words are compared with those that people scored."""
NOISES = 20
"""Sentences of random words that insertion and deletion are averaged over."""


@dataclass(frozen=True, eq=False)
class Texts(Rows):
    """Sentences and the network that reads their word vectors, (1, T, 50) each; ``train``: those it was trained on."""

    about: str
    model: Model
    labels: tuple[int, ...]
    weights: str
    net: Reader
    held_out: Sentences
    train: Sentences
    seed: int

    players: ClassVar[Any] = players.tokens()

    def row(self, row: int) -> Tensor:
        return self.net.vectors(self.held_out.words[row])

    def background_of(self, row: int) -> Tensor:
        """Training sentences with as many words or more, cut to as many."""
        length = len(self.held_out.words[row])
        fitting = [words[:length] for words in self.train.words if len(words) >= length][:BACKGROUND]
        return torch.cat([self.net.vectors(words) for words in fitting])

    def fractions(self, row: int, sizes: tuple[float, ...]) -> tuple[float, ...]:
        """Sizes are numbers of words."""
        return tuple(size / len(self.held_out.words[row]) for size in sizes)

    def noise(self, row: int) -> Tensor:
        """Sentences of the same length of words drawn from the vocabulary, each as likely: (20, T, 50)."""
        length, count = len(self.held_out.words[row]), len(self.net.vocabulary)
        drawn = rng.integers(self.seed, "experiments.random_words", 0, row * NOISES, NOISES, length, count)
        return self.net.embedding.weight.detach()[1 + drawn]


def texts(count: int, seed: int, progress: Progress | None = None) -> Texts:
    """``count`` held-out sentences of 8 to 30 words, predicted by ``data.sentences_bilstm``."""
    net = data.sentences_bilstm(progress=progress)
    every = data.movie_sentences("test", seed=seed)
    held_out = every[[i for i, words in enumerate(every.words) if SHORTEST <= len(words) <= LONGEST][:count]]
    return Texts(
        about=held_out.about,
        model=pellucid.wrap(net, axis=2, labels=held_out.labels),
        labels=tuple(held_out.y.tolist()),
        weights=digest(net),
        net=net,
        held_out=held_out,
        train=data.movie_sentences("train", seed=seed),
        seed=seed,
    )


class TextsBench(Bench):
    """Makes the pieces of sentences: references are word vectors, and people have said which words matter."""

    fixed: ClassVar[dict[str, Any]] = {"background": BACKGROUND, "noises": NOISES}
    rows: Texts

    def references(self, row: int) -> dict[str, Any]:
        """The vector 0, which is a word left out, and random words, the mean over 20 sentences of them."""
        return {"0": 0.0, "words": removal.marginal(self.rows.noise(row))}

    def shown(self, row: int, keys: set[str]) -> Shown:
        there = self.rows.held_out
        return replace(super().shown(row, keys), text=there.texts[row], places=there.places[row])

    def _picture(self, row: int) -> Array:
        return self.rows.held_out.valence[row].numpy()

    def _map(self, row: int, key: str) -> Array:
        """As it is ranked."""
        return own(self.explanation(Piece(row, key, "explanation"))).scores[0].numpy()

    def _keywords(self, piece: Piece) -> dict[str, Any]:
        """The share of the first words that people call good (bad), where the prediction is positive (negative)."""
        marked = self.rows.held_out.keywords(piece.row, self.predicted(piece.row))
        precision = np.full(len(KEYWORDS), np.nan)
        if bool(marked.any()):  # nobody marked a word: no order is right
            metric = metrics.precision_at_k(marked.unsqueeze(0), KEYWORDS)
            (cell,) = evaluate(self.rows.model, self.explanation(piece), [metric], seed=self.settings.seed).cells
            precision = np.asarray(cell.curve)[0]
        found = {f"precision@{k}": {"value": float(value)} for k, value in zip(KEYWORDS, precision, strict=True)}
        if self.of(piece.row)[piece.key].only:  # a rule has an end: as in the paper, its first word alone is judged
            return {"precision@1": found["precision@1"]}
        return found | {"precision": {"value": float(precision.mean())}}
