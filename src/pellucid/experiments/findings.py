"""What a run says, in words: the paper's claims, each with what these rows say about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pellucid.experiments.published import AS
from pellucid.experiments.robustness import Found
from pellucid.experiments.tables import FEWEST, lines, mean_ranks, versus, words
from pellucid.reporting import numerals

NOISES = {"uniform": "a uniform reference", "words": "random words"}
HOLDS, FAILS, OPEN = "holds here", "does not hold here", "these rows cannot tell"


@dataclass(frozen=True)
class Claim:
    """A claim, where it is made, whether it holds here, and why that is said."""

    text: str
    source: str
    outcome: str
    reason: str


def claims(found: Found) -> list[Claim]:
    """The paper's claims that can be tested on these rows, by intervals of paired differences."""
    kind = found.kind
    tables = {"digits": ("Table 1", "Tables 2 and 4"), "photos": ("Table 1", "Table 2"), "text": ("Table 9", "Table 9")}
    variants = {"irrelevant": "greedy_as_irrelevant", "relevant": "greedy_as_relevant"}
    others = [c.key for c in found.contestants if not c.ablation and not c.only and not c.label.startswith(AS)]
    made = [
        _beats(
            found,
            f"Greedy-AS is best on {words(kind, f'robustness_{which}')}, which it optimises",
            tables[kind.name][0],
            [(f"robustness_{which}", key, other) for other in others],
        )
        for which, key in variants.items()
    ]
    made += [
        _beats(
            found,
            f"Greedy-AS is best on {name} at {NOISES[kind.noise]}, which it does not optimise",
            tables[kind.name][1],
            [(f"{name}/{kind.noise}", variants["irrelevant"], other) for other in others],
        )
        for name in ("insertion", "deletion")
    ]
    made += [
        _beats(
            found,
            f"Greedy-AS does better than {name} alone, on the criterion of each",
            "Table 3",
            [(f"robustness_{w}", key, f"{part}_{w}") for w, key in variants.items()],
        )
        for name, part in (("Greedy", "greedy"), ("One-step Banzhaf", "banzhaf"))
    ]
    made += [
        _beats(
            found,
            "The plain gradient, which assumes no reference, beats SHAP and LOO on both robustness criteria",
            "Section 5.1" if kind.name != "text" else "Table 9",
            [(f"robustness_{which}", "grad", other) for which in variants for other in ("shap", "loo")],
        ),
        _beats(
            found,
            "BBMP is near Random on Robustness-Sr (there, the ranking was of what to keep)",
            "Table 1",
            [("robustness_relevant", "bbmp", "random")],
            wanted=0,
        ),
        _beats(
            found,
            "Greedy-AS changes more than Grad, IG and LOO when the last layer is drawn anew",
            "Table 7",
            [("randomised", variants["irrelevant"], other) for other in ("grad", "ig", "loo")],
        ),
        _beats(
            found,
            "EG is the least sensitive to small changes of the input",
            "Table 8",
            [("sensitivity", "eg", other) for other in others if other not in ("eg", "random")],
        ),
    ]
    if kind.name == "text":
        made += _keywords(found, others)
    return [claim for claim in [*made, *_references(found)] if claim is not None]


def _keywords(found: Found, others: list[str]) -> list[Claim | None]:
    """Claims about sentences only."""
    return [
        _beats(
            found,
            "Greedy-AS finds the words that people mark best",
            "Table 10",
            [("precision", "greedy_as_irrelevant", other) for other in others],
        ),
        _beats(
            found,
            "The first word of Anchor is marked by people more often than that of any other method",
            "Table 10",
            [("precision@1", "anchor", other) for other in others],
        ),
        _beats(
            found,
            "SHAP is best on insertion and deletion at 0, the reference it assumes itself",
            "Table 9",
            [(f"{name}/0", "shap", other) for name in ("insertion", "deletion") for other in others if other != "shap"],
        ),
    ]


def _beats(found: Found, text: str, source: str, pairs: list[tuple[str, str, str]], wanted: int = 1) -> Claim | None:
    """A claim that the first of each pair does better (``wanted`` 1) or no differently (0)."""
    each = [(c, a, b, versus(found, c, a, b)) for c, a, b in pairs if a != b]
    known = [(c, b, d) for c, _, b, d in each if d is not None and np.isfinite(d.low)]
    if len(known) < len(each) or not known:
        return None
    labels = {c.key: c.label for c in found.contestants}

    def told(picked: list[tuple[str, str, object]]) -> str:
        return ", ".join(dict.fromkeys(labels[b] for _, b, _ in picked))

    better = [entry for entry in known if entry[2].low > 0 and entry[2].rows >= FEWEST]
    worse = [entry for entry in known if entry[2].high < 0 and entry[2].rows >= FEWEST]
    if wanted == 0:
        d = known[0][2]
        outcome = FAILS if better or worse else OPEN
        reason = f"better by {_signed(d.mean)} {_between(d.low, d.high)}"
        return Claim(text, source, outcome, reason)
    unclear = [entry for entry in known if entry not in better and entry not in worse]
    outcome = FAILS if worse else OPEN if unclear else HOLDS
    parts = [
        f"{word} {told(list(group))}"
        for word, group in (("better than", better), ("worse than", worse), ("not told apart from", unclear))
        if group
    ]
    closest = min(known, key=lambda entry: entry[2].mean)
    d = closest[2]
    parts.append(
        f"the closest or worst is {labels[closest[1]]} on {words(found.kind, closest[0])}: "
        f"{_signed(d.mean)} {_between(d.low, d.high)}"
    )
    return Claim(text, source, outcome, "; ".join(parts))


def _references(found: Found) -> list[Claim]:
    """Claims about ranks against the reference."""
    made: list[Claim] = []
    label = f"{AS} S̄r"
    if len(found.kind.references) < 3:
        return made
    each = {kind: mean_ranks(found, kind) for kind in ("insertion", "deletion")}
    zero = [name for name in ("IG", "SHAP", "LOO") if all(name in ranks for ranks in each.values())]
    if zero:
        at = [np.mean([ranks[name][0] for ranks in each.values() for name in zero])]
        at += [np.mean([ranks[name][i] for ranks in each.values() for name in zero]) for i in (3, 4)]
        far = (at[1] + at[2]) / 2
        made.append(
            Claim(
                "Methods with the baseline 0 (IG, SHAP, LOO) fall behind as the reference moves away from 0",
                "Table 5, Figure 13",
                _by_ranks(found, far > at[0] + 0.5),
                f"mean rank {at[0]:.1f} at 0, {far:.1f} at .75 and 1 (ranks, without intervals)",
            )
        )
    if all(label in ranks for ranks in each.values()):
        worst = {kind: ranks[label].max() for kind, ranks in each.items()}
        count = len(each["insertion"])
        told = ", ".join(f"{kind} {' '.join(f'{r:.0f}' for r in ranks[label])}" for kind, ranks in each.items())
        made.append(
            Claim(
                "Greedy-AS stays among the top three across references",
                "Section 5.2, Figure 13",
                _by_ranks(found, max(worst.values()) <= 3),
                f"its ranks of {count} at {', '.join(found.kind.references)}: {told} (ranks, without intervals)",
            )
        )
    return made


def _by_ranks(found: Found, so: bool) -> str:
    return OPEN if found.settings.examples < FEWEST else HOLDS if so else FAILS


def headline(found: Found) -> list[str]:
    """One sentence for each criterion that nobody optimises: who is best, and who cannot be told from the best."""
    said = []
    for criterion in found.kind.headline:
        each = [line for line in lines(found, criterion) if not line.who.ablation]
        if len(each) < 2:
            continue
        first = each[0]
        level = []
        for line in each[1:]:
            d = versus(found, criterion, first.who.key, line.who.key)
            if d is None or not d.low > 0 or d.rows < FEWEST:
                level.append(line.who.label)
        near = f"; not told apart from it: {', '.join(level)}" if level else "; every other is worse"
        greedy = ", ".join(f"{x.who.label} is {_th(x.rank)}" for x in each if x.who.label.startswith(AS))
        name = words(found.kind, criterion)
        mean, low, high = numerals.estimate(first.mean, first.low, first.high)
        said.append(
            f"{name[0].upper()}{name[1:]}: {first.who.label} is best, {mean} ({low} to {high})"
            f"{near}. Of {len(each)}, {greedy or 'Greedy-AS is not there'}."
        )
    return said


def _th(rank: int) -> str:
    return f"{rank}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(rank if rank < 20 else rank % 10, 'th') }"


def _signed(x: float) -> str:
    return f"{'+' if x > 0 else ''}{numerals.figure(x)}"


def _between(low: float, high: float) -> str:
    return f"({_signed(low)} to {_signed(high)})"
