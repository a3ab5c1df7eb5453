"""Every technical word of the report, explained for a reader who has not met it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A word and what it means; ``key`` is its anchor on the page."""

    key: str
    word: str
    meaning: str


def key(word: str) -> str:
    """The anchor of a word.

    >>> key("95 % interval")
    '95-interval'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in word.lower()).split())


_TEXT = """
map: An explanation drawn as a picture: for every position, how much it speaks for (orange-red) or against (blue) the
explained output.

explained output: The one number that is explained: usually the model's score for the class it predicts. “Logit” is
that score before it is turned into a probability, “probability” after.

scale: The value at which a map reaches its full colour, the same for both signs: the 99th percentile of the map's
|values|. Methods have different units, so compare where maps point, not how deep their colours are.

insertion: The positions a method ranks first are put back into an empty picture, step by step. If the method is
right, the model's score comes back early. Higher is better.

deletion: The positions a method ranks first are taken away, step by step. If the method is right, the model's score
falls early. Lower is better.

value error: How far the values, added up, miss the model's output when any features are taken away, relative to the
best constant guess. 0 is perfect, 1 no better than that guess. Lower is better.

completeness: Whether the values add up to the change in the output that they claim to share out. 0 is perfect.

base value: What the model says when every feature is absent, that is, replaced by its stand-in. The values lead from
there to the output.

residual: By how much the values miss the sum they promise, relative to the change in the output.

frequency: How fast a pattern changes across a picture. Coarse frequencies, with long periods, hold shapes and shading;
fine ones hold texture and edges.

sum rule: The values over all inputs add up to what the model gains from seeing the right input: its mean score for the
true class, less its mean score where labels and inputs are paired at random.

reconstruction gap: Features such as latents are read off an input and turned back into one. The gap is how far the
model's output moves on that way; what is explained is the output after it.

exact by construction: The method's values are made to add up, so that checking the sum would prove nothing; it is not
scored.

reference: What stands in for a position that is taken away: noise, black, a blurred picture, the mean. Results depend
on it, so at least two are used.

matched: The reference is the method's own baseline, or the method searches for what is measured, which flatters it.
Such figures are hatched and decide nothing.

robustness: How small a change alters the prediction, when the positions a method ranks first are held (irrelevant:
higher is better) or may move alone (relevant: lower is better). It needs no reference. The smallest change found is
its radius; better attacks might find a smaller one.

pertinent positive: Something in the input that must stay for the prediction to stand: the smallest change that alters
it takes this away.

pertinent negative: Something missing in the input that must stay away: the smallest change that alters the prediction
puts it in, as a stroke that would close a 4 to a 9.

patches: Positions joined into squares on one grid for all methods, so that a smooth map has no advantage over a fine
one.

random control: An order of the positions that knows nothing. A method that does not beat it explains nothing.

95 % interval: A range that would cover the true mean in 95 of 100 repetitions with other inputs. Where intervals of
two methods overlap widely, the data do not tell them apart.

significant: A difference from random ordering that chance alone would rarely produce: p under .05 in Wilcoxon's test
after correction.

p-value: How often chance alone would produce a difference at least this large. Always read it beside the difference
and its interval.

Holm's correction: Many tests find something by luck; Holm's correction makes each p-value stricter to allow for that.

rank correlation: How similarly two methods order the positions of a picture: 1 the same order, 0 unrelated, −1
opposite (Spearman's ρ, averaged over inputs).

top overlap: The share of two methods' most important positions that they have in common.

verdict: ● trust: the check against random order and at least three in all pass, and none fails. ○ do not trust: a
decisive check fails. ◐ unclear: anything else.

randomised weights: The model's last layer is replaced by random numbers. An explanation that hardly changes was not
about this model.

planted tag: A model trained so that a small mark decides the class. The truth is known, so a method can be caught
looking elsewhere.

standard error: How far a sampled value would typically move if it were drawn again.

forwards: How many inputs the model was run on to make the explanation; backwards: how many times its gradient was
taken.

peak memory: The most extra memory used at any moment while explaining.

seed: The number that fixes all random draws, so that the same command gives the same figures.
"""


def _terms(text: str) -> dict[str, Term]:
    entries = (" ".join(entry.split()).partition(": ") for entry in text.strip().split("\n\n"))
    return {key(word): Term(key(word), word, meaning) for word, _, meaning in entries}


TERMS = _terms(_TEXT)
