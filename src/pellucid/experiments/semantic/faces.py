"""Faces and a biased label: does the audit find the planted bias, and only that, and where does credit leak?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.data.drawn_faces import FACE_PROXIES, FACE_RULE
from pellucid.experiments.findings import FAILS, HOLDS, OPEN, Claim
from pellucid.experiments.semantic import persons, verdicts, worlds
from pellucid.experiments.semantic.bench import Bench
from pellucid.experiments.semantic.blocks import Result, Section, Table
from pellucid.experiments.semantic.claims import Hypothesis, Trial, decided
from pellucid.experiments.semantic.worlds import (
    CONTROL,
    CORRELATED,
    FACES,
    HIDDEN,
    INDEPENDENT,
    NEVER,
    PAINTED,
    PLAYERS,
    Explained,
    Found,
    figure,
    told,
)
from pellucid.reporting import numerals


def run(bench: Bench) -> Result:
    """Draw, train, translate, explain, audit."""
    found = worlds.found(bench)
    tested, tests = decided(_hypotheses(found), bench.settings.seed)
    return Result(
        "faces",
        "Auditing a classifier of faces that learned a biased label",
        "People with dark skin were invited less often, other things equal, and a network learned from who was "
        "invited. De Mijolla et al. (2020) explain such classifiers by labelled attributes, through a network that "
        "changes attributes in pictures. Here faces are drawn, so that the bias is planted and the translator without "
        "error is known.",
        _headline(found),
        (*tested, *_claims(found)),
        (
            Section("The verdicts", verdicts.verdicts(found)),
            Section("Global values", verdicts.globally(bench, found)),
            Section("Where the difference between groups comes from", verdicts.leaks(found)),
            Section("One person", persons.locally(bench, found)),
            Section("May the trained translators be believed?", persons.quality(found)),
            *(
                [Section("Tests", (Table("tests", tests, "Comparisons by input behind the first claims."),))]
                if tested
                else []
            ),
        ),
        _facts(found),
    )


# ---------------------------------------------------------------- claims


def _hypotheses(found: Found) -> list[Hypothesis]:
    made = []
    for one in found.ways(CONTROL):
        if one.doubted:
            continue
        values = one.true_class
        place = PLAYERS.index(CONTROL)
        rest = np.delete(values, place, 1)
        trial = Trial(f"{CONTROL} - the next", values[:, place] - rest[:, int(rest.mean(0).argmax())])
        text = f"A classifier of {CONTROL!r} rests on {CONTROL!r} ({one.translator.label})"
        made.append(Hypothesis(text, "demijolla2020, Figs. 11 and 12", (trial,)))
    for one in found.ways(INDEPENDENT):
        if one.doubted:
            continue
        values = one.true_class
        others = [i for i, name in enumerate(PLAYERS) if name not in FACE_RULE]
        largest = values[:, others[int(values[:, others].mean(0).argmax())]]
        trials = tuple(
            Trial(f"{name} - the largest other", values[:, PLAYERS.index(name)] - largest) for name in FACE_RULE
        )
        text = f"The attributes that the label depends on carry the classifier's accuracy ({one.translator.label})"
        made.append(Hypothesis(text, "demijolla2020, Section 3.5 and Fig. 6", trials))
    return made


def _claims(found: Found) -> tuple[Claim, ...]:
    """Claims that the audit decides."""
    made = []
    for key in (INDEPENDENT, CORRELATED):
        for one in found.ways(key):
            text = f"The planted bias is found, and no other: {one.world.title}, {one.translator.label}"
            made.append(Claim(text, "this experiment", *_only(one)))
    hidden = found[PAINTED, "exact"]
    whole, zero = hidden.audit[NEVER].outputs, float(np.abs(np.asarray(hidden.e.values)[:, 0]).max())
    nothing = "exactly 0" if zero == 0 else f"up to {numerals.figure(zero)}"
    leaked = [name for name in FACE_PROXIES if hidden.audit[name].judged.verdict == "against"]
    made.append(
        Claim(
            f"With {HIDDEN} painted over in all faces, credit leaks to the proxies ({' and '.join(FACE_PROXIES)})",
            "this experiment",
            HOLDS if len(leaked) == len(FACE_PROXIES) and whole.verdict == "against" else OPEN if leaked else FAILS,
            f"values of {HIDDEN} are {nothing}; people who have it get {told(whole)}; bias against {_listed(leaked)}",
        )
    )
    return tuple(made)


def _only(one: Explained) -> tuple[str, str]:
    """Whether the audit finds what the label's rule has, and nothing else."""
    audit = one.audit
    wanted = {name: "in favour" if weight > 0 else "against" for name, weight in FACE_RULE.items()}
    missed = [name for name, word in wanted.items() if audit[name].judged.verdict != word]
    false = [name for name in audit.biased if name not in wanted]
    open_ = [f.group for f in audit.findings if f.group not in wanted and f.judged.verdict == "unclear"]
    reason = "; ".join(f"{name} {told(audit[name].judged)}, planted {figure(w)}" for name, w in FACE_RULE.items())
    reason += f"; wrongly accused: {_listed(false)}; undecided: {_listed(open_)}"
    if one.doubted:
        return OPEN, f"the translator did not pass, so its values count for nothing; {reason}"
    return (FAILS if missed or false else OPEN if open_ else HOLDS), reason


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _headline(found: Found) -> tuple[str, ...]:
    said = []
    for key in (INDEPENDENT, CORRELATED):
        one = found[key, "exact"]
        skin = one.audit[HIDDEN].judged
        accused = _listed([name for name in one.audit.biased if name not in FACE_RULE])
        said.append(
            f"With {one.world.title}, having {HIDDEN} changes the chance of being invited by {told(skin)} (planted: "
            f"{figure(FACE_RULE[HIDDEN])}); accused of the eleven attributes that the label ignores: {accused}."
        )
    found_here = found[CORRELATED, "exact"].audit
    parts = []
    for name in FACE_PROXIES:
        one_finding = found_here[name]
        own = "" if one_finding.own is None else f" ({figure(one_finding.own.value)} of its own"
        through = found_here.through(name)
        first, most = str(through["feature"].iloc[0]), float(through["value"].iloc[0])
        parts.append(f"{told(one_finding.outputs)} with {name}{own}, {figure(most)} through {first})")
    said.append(f"There the chance differs by {' and by '.join(parts)}.")
    hidden = found[PAINTED, "exact"].audit
    rows = hidden.through(NEVER).head(2).to_dict("records")
    leaks = " and ".join(f"{figure(r['value'])} ± {r['std_error']:.3f} through {r['feature']}" for r in rows)
    said.append(
        f"A classifier that never saw {HIDDEN} still treats people who have it differently, by "
        f"{told(hidden[NEVER].outputs)}: {leaks}."
    )
    flips = found.trained.flips
    least = numerals.percent(min(flips.accuracy.values()))
    a, b = (np.asarray(found[INDEPENDENT, key].e.values).ravel() for key in ("exact", "trained"))
    apart = float(np.corrcoef(a, b)[0, 1])
    outcome = (
        f"does not pass: {flips.reasons[0]}; {len(flips.reasons)} of its 169 entries are out of bounds. Its values, "
        "not to be believed,"
        if flips.reasons
        else f"passes: every wanted change comes in {least} of faces or more. Its values"
    )
    said.append(
        f"The trained translator {outcome} correlate by {apart:.2f} with those of the exact one, person by person."
    )
    said.append(_own(found))
    return tuple(said)


def _own(found: Found) -> str:
    """What a translator does that was trained where attributes go along with each other."""
    own, flips = found[CORRELATED, "own"].audit, found.own.flips
    row = flips.matrix[PLAYERS.index(HIDDEN)]
    moved = " and ".join(f"{name} in {numerals.percent(float(row[PLAYERS.index(name)]))}" for name in FACE_PROXIES)
    passes = "passes" if flips.passes else "does not pass"
    values = ", ".join(f"{name} {told(own[name].judged)}" for name in (HIDDEN, *FACE_PROXIES))
    return (
        f"A translator trained on faces with these correlations {passes}: asked to change {HIDDEN}, it changes {moved} "
        f"of faces. Through it the audit of that world reads {values}."
    )


def _facts(found: Found) -> tuple[tuple[str, str], ...]:
    world = found.worlds[INDEPENDENT]
    said: dict[str, str] = {}
    said["Faces"] = (
        "Drawn, 32 x 32, from 13 binary attributes and 16 numbers that are the “unlabelled” player; the label is a "
        "coin with the chance .4 + .5 [smiling] - .3 [dark skin]."
    )
    said["Rows"] = (
        f"{len(world.x)} people a world and {len(world.background)} others as background; values of the chance, from "
        "two antithetic pairs of orders a row, each with a background row of its own; errors over rows count all of "
        "it. The same draws through all translators."
    )
    fitted = found.trained.fitted
    if fitted is not None:
        said["Smaller than published"] = (
            f"The translator: {fitted.steps:,} steps on minibatches of 16 of {FACES:,} faces, 12 filters, two steps of "
            "the critic for one of the generator, Adam at 2e-3, falling to 0 over the last quarter; attributes are "
            "read through noise of up to .5, those that stay need only read as they did, and a mask says where the "
            "picture is painted over. Published: 128 pixels, 200 epochs of CelebA, five steps of the critic, 2e-4, no "
            "noise, no mask. These were set after earlier runs, seen on these faces and on others, had not passed: "
            "they made changes that the critic reads and the judge does not, then half changes, took little away, and "
            "painted over what should stay; 48,000 steps on 8,000 faces still missed by 3 entries as 400 faces tell, "
            f"so steps, faces and judged faces were raised. Trained in {numerals.seconds(fitted.seconds)}. The "
            "translator trained on correlated faces is the same recipe on as many faces of the correlated world."
        )
    said["Classifiers"] = (
        "Two convolutions and two linear layers on 6,000 faces, their own for each world and task; the judge of "
        "translators is such a network for all 13 attributes."
    )
    return tuple(said.items())
