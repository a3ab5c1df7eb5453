"""The figure of a sentence: which words stand on which colours, under which title."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.colors
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

import pellucid
from pellucid import BadInput, methods, players
from pellucid.reporting import words

WORDS = ["a", "truly", "dreadful", "film", "with", "one", "good", "joke"]
WEIGHTS = torch.tensor([0.0, -0.2, -2.0, 0.0, 0.0, 0.1, 1.5, 0.3])


def said(**options):
    """A sentence of word vectors (1, 8, 2) whose class is the sum of its words' weights."""
    x = torch.stack([WEIGHTS, torch.ones(8)], 1).unsqueeze(0)
    net = pellucid.wrap(lambda z: z[:, :, :1].sum(1), axis=2)
    return pellucid.explain(net, x, methods.feature_ablation(), target=0, **options)


def read(figure):
    """The letters as lines from the top, the titles, and the colour under each word."""
    ax = figure.axes[0]
    letters, titles = {}, []
    for text in ax.texts:
        x, y = text.get_position()
        if len(text.get_text()) == 1:
            letters.setdefault(round(y, 2), []).append((x, text.get_text()))
        else:
            titles.append(text.get_text())
    lines = ["".join(letter for _, letter in sorted(line)) for _, line in sorted(letters.items())]
    shades = [np.array(p.get_facecolor()[:3]) for p in ax.patches if isinstance(p, Rectangle)]
    return lines, titles, shades


@pytest.mark.parametrize("options", [{}, {"players": players.tokens()}], ids=["positions", "players"])
def test_each_word_stands_on_the_colour_of_its_value(options):
    lines, titles, shades = read(words.sentence(said(**options), WORDS))
    assert lines == ["".join(WORDS)]
    assert titles == ["Feature ablation: ±2.00"]
    red, _, blue = np.array(shades).T
    assert (red[[2]] < blue[[2]]).all()  # speaks against
    assert (red[[6, 7]] > blue[[6, 7]]).all()
    assert np.allclose(np.array(shades)[[0, 3, 4]], 1)  # no value, no colour
    depth = 1 - np.min(shades, axis=1)
    assert depth[2] > depth[6] > depth[7] > depth[5] > 0


def test_a_long_sentence_breaks_between_words_and_methods_stand_below_each_other():
    e = said()
    many = pellucid.explain(
        pellucid.wrap(lambda z: z.sum(1, keepdim=True)), torch.ones(1, 40), methods.feature_ablation(), target=0
    )
    lines, titles, _ = read(words.sentence(many, ["wonderful"] * 40))
    assert [len(line) for line in lines] == [8 * 9] * 5
    lines, titles, _ = read(words.sentence({"one": e, "two": e}, WORDS))
    assert lines == ["".join(WORDS)] * 2
    assert [title.partition(":")[0].lower() for title in titles] == ["one", "two"]


def test_a_word_that_may_be_nothing_is_pale_and_marked_words_are_underlined():
    e = said(players=players.tokens())
    e = replace(e, std_error=np.full_like(e.values, 0.2))
    ax = words.sentence(e, WORDS, marked=[word == "good" for word in WORDS]).axes[0]
    pale = {text.get_text() for text in ax.texts if matplotlib.colors.to_hex(text.get_color()) == "#8a867d"}
    assert pale == set("atrulyfilmwithonejoke")  # all but those of "dreadful" and "good"
    (line,) = ax.lines
    start = sum(len(word) + 1 for word in WORDS[:6])
    assert list(line.get_xdata()) == [start, start + len("good")]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"words": WORDS[1:]}, "7 words were given for 8 features"),
        ({"row": 1}, r"row must be 0\.\.0, got 1"),
        ({"marked": [True]}, "marked must say of each of 8 words"),
        ({"explanations": {}}, "nothing to draw"),
    ],
)
def test_what_does_not_fit_is_named(change, says):
    with pytest.raises(BadInput, match=says):
        words.sentence(**{"explanations": said(), "words": WORDS} | change)
