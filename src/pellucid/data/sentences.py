"""Real sentences of film reviews, each with its mean human score, and a lexicon of words that people have scored."""

from __future__ import annotations

import html
import io
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from pellucid.core import rng
from pellucid.core.errors import BadInput
from pellucid.data import downloads
from pellucid.data.examples import first

ABOUT = (
    "Real: sentences of film reviews, each scored by 20 people or more (Hutto and Gilbert, ICWSM 2014), in the source "
    "archive of vaderSentiment (MIT)"
)
ARCHIVE = downloads.Archive(
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    2.5,
    source=True,
)
LABELS = ("negative", "positive")
CLEAR = 0.5
"""Sentences whose mean score is nearer to 0 (of -4 to 4) have no class and are left out."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_HELD_OUT = 0.2


@dataclass(frozen=True, eq=False, repr=False)
class Sentences:
    """Sentences of any length with their classes, and which of their words people call good or bad.

    - ``texts``: N sentences as they stand; ``places``: for each the (start, end) of its words in the text;
    - ``words``: for each its words in small letters, T of them; ``valence``: for each (T,) float32, the word's mean
      human score in the lexicon, -4 to 4, and 0 for words that are not in it;
    - ``y``: (N,) int64, the class; ``labels[y]`` is its name; ``scores``: (N,) the sentence's mean human score;
    - ``names``: N identifiers; ``about``: source and licence.

    A slice or a list of integers gives the chosen rows, again as Sentences.
    """

    texts: tuple[str, ...]
    places: tuple[tuple[tuple[int, int], ...], ...]
    words: tuple[tuple[str, ...], ...]
    valence: tuple[Tensor, ...]
    y: Tensor
    scores: Tensor
    labels: tuple[str, ...]
    names: tuple[str, ...]
    about: str

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: slice | Sequence[int]) -> Sentences:
        index = list(range(len(self))[rows]) if isinstance(rows, slice) else [range(len(self))[row] for row in rows]
        return replace(
            self,
            texts=tuple(self.texts[i] for i in index),
            places=tuple(self.places[i] for i in index),
            words=tuple(self.words[i] for i in index),
            valence=tuple(self.valence[i] for i in index),
            y=self.y[index],
            scores=self.scores[index],
            names=tuple(self.names[i] for i in index),
        )

    def __repr__(self) -> str:
        return f"<Sentences {len(self)}, {len(self.labels)} classes. {self.about}>"

    def keywords(self, row: int, label: int) -> Tensor:
        """Which words of a sentence people call good (class 1) or bad (class 0): (T,) bool."""
        return (self.valence[row] > 0) if label == 1 else (self.valence[row] < 0)


def movie_sentences(split: str = "train", count: int | None = None, seed: int = 0) -> Sentences:
    """Real sentences of film reviews, negative or positive, with the words that people call good or bad.

    The 10,605 movie sentences of hutto2014, each scored by 20 people or more from -4 to 4. The class is the sign of the
    mean score; sentences within half a point of 0 are left out, and so is what occurs a second time. Which of them are
    held out (one in five) is fixed, whatever the seed. ``seed`` sets the order of the rows.

    - ``split``: ``"train"`` or ``"test"``; ``count``: keep the first so many rows; None keeps all;
    - returns ``Sentences``; the lexicon was scored apart from the sentences, word by word, by ten people.

    Cost: 0.3 s, read once a process. The 2.5 MB archive is downloaded by pip on first use, its hash checked, and kept
    in the cache folder (see ``sentences_bilstm``). Real data, MIT. Source: hutto2014.
    """
    if split not in ("train", "test"):
        raise BadInput(f"data.movie_sentences: split must be 'train' or 'test', got {split!r}")
    table, lexicon = _table(), _lexicon()
    shuffled = rng.permutation(0, "data.movie_sentences/split", 0, 0, 1, len(table))[0]
    held_out = round(_HELD_OUT * len(table))
    own = shuffled[:held_out] if split == "test" else shuffled[held_out:]
    order = rng.permutation(seed, f"data.movie_sentences/order/{split}", 0, 0, 1, len(own))[0]
    rows = own[order][: first(count, len(own), "data.movie_sentences")].tolist()
    places = tuple(tuple(found.span() for found in _WORD.finditer(table[i][2])) for i in rows)
    words = tuple(split_words(table[i][2]) for i in rows)
    scores = torch.tensor([table[i][1] for i in rows])
    return Sentences(
        texts=tuple(table[i][2] for i in rows),
        places=places,
        words=words,
        valence=tuple(torch.tensor([lexicon.get(word, 0.0) for word in each]) for each in words),
        y=(scores > 0).long(),
        scores=scores,
        labels=LABELS,
        names=tuple(f"movie-{table[i][0]}" for i in rows),
        about=f"{ABOUT}, {split} split.",
    )


def split_words(text: str) -> tuple[str, ...]:
    """The words of a text in small letters, as the networks of this package read them; marks of punctuation are none.

    >>> split_words("It isn't GOOD: it's great!")
    ('it', "isn't", 'good', "it's", 'great')
    """
    return tuple(found.group().lower().replace("’", "'") for found in _WORD.finditer(text))


@lru_cache(maxsize=1)
def _files() -> dict[str, str]:
    """The two files of the archive that are read: it holds another archive."""
    with tarfile.open(downloads.kept(ARCHIVE, "data.movie_sentences")) as outer:
        root = f"{ARCHIVE.package}-{ARCHIVE.version}"
        inner = io.BytesIO(_bytes(outer, f"{root}/additional_resources/hutto_ICWSM_2014.tar.gz"))
        lexicon = _bytes(outer, f"{root}/vaderSentiment/vader_lexicon.txt")
        with tarfile.open(fileobj=inner) as archive:
            movies = _bytes(archive, "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
    return {"movies": html.unescape(movies.decode("utf-8")), "lexicon": lexicon.decode("utf-8")}


def _bytes(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None:
        raise BadInput(f"data.movie_sentences: {name} is not a file in its archive")
    return member.read()


@lru_cache(maxsize=1)
def _table() -> tuple[tuple[str, float, str], ...]:
    """(identifier, score, text) of each sentence with a clear score and at least one word, once."""
    seen: dict[tuple[str, ...], tuple[str, float, str]] = {}
    for line in _files()["movies"].splitlines():
        name, score, text = line.split("\t", 2)
        words = split_words(text)
        if words and abs(float(score)) > CLEAR:
            seen.setdefault(words, (name, float(score), text.strip()))
    return tuple(seen.values())


@lru_cache(maxsize=1)
def _lexicon() -> dict[str, float]:
    """Mean human scores of words."""
    lines = (line.split("\t") for line in _files()["lexicon"].splitlines() if line.strip())
    return {parts[0]: float(parts[1]) for parts in lines}
