"""Parts of a report by hand, and a reader of its text."""

from html.parser import HTMLParser

import numpy as np

from pellucid.core.comparison import Comparison
from pellucid.core.scores import Cell, Scores
from pellucid.core.verdict import Disagreement

EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Elements and words of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside[-1:]):
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def cell(method, reference, values, family="insertion", **options):
    values = np.asarray(values, dtype=float)
    label = f"{family}, {reference} reference, 7 x 7 patches"
    better = {"insertion": "higher", "deletion": "lower"}[family]
    return Cell(
        method,
        label,
        family,
        better,
        values,
        float(np.nanmean(values)),
        np.nan,
        np.nan,
        reference,
        "7 x 7 patches",
        **options,
    )


def comparison(cells, further=()):
    nothing = np.empty((0, 0))
    return Comparison({}, Scores(tuple(cells)), (), Disagreement((), nothing, nothing, 0.1), (), further=tuple(further))
