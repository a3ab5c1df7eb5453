"""How a run was made, in words for its page."""

from __future__ import annotations

import platform

import torch

from pellucid import __version__
from pellucid.experiments.robustness import Found
from pellucid.experiments.settings import Settings
from pellucid.reporting import numerals


def released(found: Found) -> str:
    """What the released settings would take."""
    n, s = found.get("released", "released"), found.settings
    if n is None:
        return ""
    return (
        "Greedy-AS with the settings of the released code (5,000 subsets a step, PGD of 100 steps with bisection) "
        f"would take about {numerals.seconds(float(n.values.mean()))} for the top 20 % of one digit: extrapolated in "
        f"proportion from one step of {s.released_subsets} subsets, timed on {numerals.plural(len(n.values), 'digit')}."
    )


_INTRO = {
    "digits": "on {count} held-out MNIST digits and another, smaller network.",
    "text": "on {count} held-out movie sentences and a small network that reads word vectors: a substitute for the "
    "paper’s Yahoo! Answers and its network with GloVe vectors. A word is free or held as a whole.",
    "photos": "on {count} photos and a small ImageNet network, reduced: a grid of 7 x 7 cells in place of pixels, few "
    "random sets, short attacks. With so few photos nothing can be concluded; the page shows that it works and what it "
    "costs.",
}


def intro(found: Found) -> str:
    """What is run again, on what."""
    return _INTRO[found.kind.name].format(count=found.settings.examples)


def facts(found: Found, command: str) -> list[tuple[str, str]]:
    """Settings, departures, versions."""
    s, kind = found.settings, found.kind
    grow = " and ".join(
        name for name in ("Greedy", "One-step Banzhaf") if any(c.paper in name for c in found.contestants)
    )
    part = f", {grow} on {s.in_ablation} of them" if grow and s.in_ablation < s.examples else ""
    said: dict[str, str] = {}
    said["Rows"] = (
        f"{found.about} The first {s.examples} of seed {s.seed}{part}; {numerals.percent(found.accuracy)} are "
        f"{'predicted' if kind.name != 'digits' else 'read'} rightly. The predicted class is explained."
    )
    said |= {"digits": _digits, "text": _text, "photos": _photos}[kind.name](s)
    said["Intervals"] = (
        f"95 %, bootstrap over rows ({kind.many}). Tests: paired t and Wilcoxon, both with Holm's correction over all "
        "tests of this page; win, draw and loss by the t-test, under 12 rows by the interval."
    )
    said["Made"] = (
        f"{command}\npellucid {__version__}, torch {torch.__version__.partition('+')[0]}, Python "
        f"{platform.python_version()}; {numerals.count(found.made)} pieces made in this call, in "
        f"{numerals.seconds(found.seconds)}; the others were in the store."
    )
    return list(said.items())


def _digits(s: Settings) -> dict[str, str]:
    return {
        "Model": (
            "The small network of pellucid.data.digits_cnn (two convolutions, 105,866 parameters, trained on 4,000 "
            "digits), not the paper's: compare ranks with the paper's, not areas."
        ),
        "Greedy-AS": _greedy_as(s, "15 steps"),
        "Radii of scores": _radii(s, "40 steps")
        + (" Sets out of reach count as the largest distance in the box; their share is printed."),
        "Areas": (
            f"Trapezoid over {_sizes(s)} % of the pixels, the axis in percent points. Insertion and deletion read the "
            "logit of the predicted class."
        ),
        "Rankings": (
            "Grad and CFX by size, the others by signed value, as this library's methods declare; the released code "
            "takes absolute values. IG is multiplied by x - baseline, theirs is not; SHAP is a regression under the "
            "Shapley kernel with exact sums, theirs is not; BBMP ranks what has to be taken away, theirs what is kept."
        ),
        "Planted truth": (
            "Tagged digits: a mark of 4 x 4 pixels in a corner alone decides the class, and 8 of its pixels are lit. "
            "Chance is 2 %."
        ),
        "Randomised weights": (
            f"The last layer drawn once, the class held fixed, on {s.in_few} digits. Methods that explain the "
            "prediction itself (CFX, Greedy-AS) explain that of the random network. Of IG, LOO and SHAP four pixels in "
            "five are 0 before and after, since they are black, which by itself makes ranks agree."
        ),
        "Sensitivity": (
            f"Top 20 % at {s.neighbours} neighbours drawn uniformly within .1 in every pixel: the largest share not "
            f"kept, on {s.in_few} digits; every neighbour has random draws of its own. As metrics.sensitivity measures "
            "it, with all neighbours in one call, and the floor only of methods whose draws are cheap: of Greedy-AS it "
            "would cost as much again."
        ),
    }


def _text(s: Settings) -> dict[str, str]:
    return {
        "Model": (
            "pellucid.data.sentences_bilstm: word vectors of 50 entries trained with it, 32 units in each direction, "
            "about 77 % right on all held-out sentences. It has two classes, so that towards the other class is the "
            "same as away from this one."
        ),
        "Sentences": (
            "Of 8 to 30 words; marks of punctuation are no words. Words that the network does not know have the vector "
            "0, which is also what 30 % of the words were replaced with when it was trained: at the reference 0 a word "
            "is left out, and IG, SHAP and LOO know it."
        ),
        "Greedy-AS": _greedy_as(s, "15 steps") + " A word is added at a time, up to the largest set.",
        "Radii of scores": _radii(s, "40 steps")
        + (
            " The free words' vectors may move anywhere: there is no box. A set that no attack succeeds on counts "
            "10 times the radius of all words together; their share is printed."
        ),
        "Areas": (
            f"Trapezoid over k = {_sizes(s)} words. Insertion and deletion read the logit of the predicted class; "
            "random words are drawn from the vocabulary, the mean over 20 draws of all words."
        ),
        "Background": (
            "Of EG and Anchor: 100 training sentences of as many words or more, cut. Anchor replaces words not held "
            "with those of one of these sentences; like the paper, only its first word is judged. No method takes "
            "random words for absence, but those of EG's sentences are the nearest to them."
        ),
        "Keywords": (
            "Words that people scored one by one, without the sentence, as good (bad) in the lexicon of hutto2014, "
            "where the prediction is positive (negative): what people call good words, which need not be what the "
            "network uses. Sentences without such a word have no number. The paper had 30 people mark 5 to 7 words of "
            "each of 30 questions."
        ),
        "Rankings": (
            "Grad and CFX by the sum over a word's entries of absolute values, IG and EG by the signed sum, the others "
            "by signed value."
        ),
    }


def _photos(s: Settings) -> dict[str, str]:
    return {
        "Model": "EfficientNet-Lite0 (pellucid.data.efficientnet), not the paper's ResNet: compare ranks, not areas.",
        "Reduced": (
            "Photos of 168 x 168 pixels. Every ranking is read on 7 x 7 cells; Greedy-AS, Banzhaf, SHAP and LOO are "
            "asked about cells, the others about pixels. Greedy is left out."
        ),
        "Greedy-AS": _greedy_as(s, "8 steps") + " A tenth of the cells are added at a time.",
        "Radii of scores": _radii(s, "15 steps"),
        "Areas": f"Trapezoid over {_sizes(s)} % of the cells, the axis in percent points.",
        "Background": "Of EG: the other photos.",
        "Pictures": "The photos are their owners' and are not shown; pellucid.data.photos() has them.",
    }


def _greedy_as(s: Settings, steps: str) -> str:
    return (
        f"{s.subsets:,} subsets a step with inclusion .2 (the paper: 5,000), radii by a minimum-norm search of "
        f"{steps}, an intercept and a ridge penalty, which the released code has not. One-step Banzhaf: "
        f"{s.banzhaf:,} subsets."
    )


def _radii(s: Settings, steps: str) -> str:
    return (
        f"The smaller of a minimum-norm search of {steps} and PGD ({s.pgd_steps} steps, "
        f"{numerals.plural(s.restarts, 'try', 'tries')}) 1 % inside it; where that succeeds, the search goes on from "
        "there and is confirmed again."
    )


def _sizes(s: Settings) -> str:
    return ", ".join(f"{size:g}" for size in s.sizes)
