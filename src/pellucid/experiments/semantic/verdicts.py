"""Sections on groups: verdicts, global values, and where differences between groups come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import pellucid
from pellucid.core.explanation import Explanation
from pellucid.data.drawn_faces import FACE_PROXIES
from pellucid.experiments.semantic.bench import Bench
from pellucid.experiments.semantic.blocks import Bars, Block, Series, Table, Text
from pellucid.experiments.semantic.worlds import (
    CORRELATED,
    HIDDEN,
    INDEPENDENT,
    MARGIN,
    NEVER,
    PAINTED,
    PLAYERS,
    PROXIES,
    Explained,
    Found,
    few,
    told,
)

if TYPE_CHECKING:
    import pandas as pd

FEW_ROWS = 100
"""Rows of the global explanation whose sum rule is checked."""


def verdicts(found: Found) -> tuple[Block, ...]:
    """What the audit says of each group, world by world."""
    import pandas as pd

    tables: list[pd.DataFrame] = []
    for one in found.explained.values():
        frame = one.audit.table
        frame.insert(0, "translator", one.translator.label)
        frame.insert(0, "world", one.world.title)
        tables.append(frame)
    everything = pd.concat(tables, ignore_index=True)
    blocks: list[Block] = [
        Text(
            "An attribute's own effect is the mean value of its feature over people who have it, minus the mean over "
            f"those who do not. Bias: the interval lies wholly beyond ±{MARGIN:g} of the chance; none: wholly within. "
            "Intervals of each column hold for all 13 groups at once (95 %). Smiling is the label's own criterion: "
            "the audit says that the classifier uses it, not that it should not."
        )
    ]
    for key in (INDEPENDENT, CORRELATED, PAINTED):
        ways = found.ways(key)
        shown = pd.DataFrame(
            [
                {"group": f.group}
                | {one.label: f"{told(one.audit[f.group].judged)} {one.audit[f.group].judged.verdict}" for one in ways}
                for f in ways[0].audit.findings
            ]
        )
        world = ways[0].world
        judged = f" {NEVER} has no feature of its own and is judged by the outputs." if key == PAINTED else ""
        blocks.append(Table(f"verdicts-{key}", shown, f"{world.title.capitalize()}.{judged}"))
    blocks.append(Table("audit", everything, shown=False))
    return tuple(blocks)


def globally(bench: Bench, found: Found) -> tuple[Block, ...]:
    """Global values, and the sum rule."""
    import pandas as pd

    blocks: list[Block] = [
        Text(
            "Values of the true label, averaged over people (Eq. 3): what the classifier's accuracy above that of the "
            "class balance rests on. The classifier of one attribute must rest on that attribute (Figs. 11 and 12)."
        )
    ]
    rows = []
    for key, world in found.worlds.items():
        ways = found.ways(key)
        series = []
        for one, style in zip(ways, ("accent", "plus", "minus"), strict=False):
            values = one.true_class
            mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
            series.append(Series(one.label, mean, error, style))
            rows += [
                {"world": world.title, "translator": one.translator.label, "feature": f, "value": m, "std_error": s}
                for f, m, s in zip(PLAYERS, mean.tolist(), error.tolist(), strict=True)
            ]
        blocks.append(Bars(world.title.capitalize(), PLAYERS, tuple(series)))
    sums = []
    for one in found.ways(INDEPENDENT):
        g = _overall(bench, one)
        rule = g.details["sum_rule"]
        sums.append(
            {
                "translator": one.translator.label,
                "sum of values": rule["sum"],
                "E f_y(x) - E f_y(x')": rule["outputs"] - rule["base"],
                "difference": rule["difference"],
                "its standard error": rule["std_error"],
                "reconstruction gap": float(np.mean(g.details["reconstruction_gap"])),
            }
        )
    count = min(FEW_ROWS, len(found.worlds[INDEPENDENT].x))
    blocks += [
        Table("sum_rule", pd.DataFrame(sums), f"The sum rule (Eq. 4), {count} people of independent attributes."),
        Table("global", pd.DataFrame(rows), shown=False),
    ]
    return tuple(blocks)


def _overall(bench: Bench, one: Explained) -> Explanation:
    world, space = one.world, one.translator.space(one.world)
    count = min(FEW_ROWS, len(world.x))
    return bench.explanation(
        f"{world.key}-{one.translator.key}-global",
        lambda: pellucid.explain_global(
            world.model, world.x[:count], world.y[:count], few(world), space, seed=bench.settings.seed
        ),
    )


def leaks(found: Found) -> tuple[Block, ...]:
    """Through which features groups are treated differently."""
    import pandas as pd

    blocks: list[Block] = [
        Text(
            "Values add up to the output, so the difference in mean output between people who have an attribute and "
            f"people who do not is a sum over features. {HIDDEN.capitalize()} correlates by {PROXIES:g} with "
            f"{' and '.join(FACE_PROXIES)} in the correlated world; on these the label does not depend. In the last "
            f"world {HIDDEN} was painted over in all pictures, those the classifier learned from and those it judges. "
            f"Whoever has no faces but such in which {HIDDEN} goes along with {' and '.join(FACE_PROXIES)} can train a "
            "translator on no others; what credit then goes astray is the translator's doing, not the classifier's."
        )
    ]
    rows = []
    proxied = HIDDEN, *FACE_PROXIES
    for key, way, groups in (
        (CORRELATED, "exact", proxied),
        (CORRELATED, "own", proxied),
        (PAINTED, "exact", (NEVER, *FACE_PROXIES)),
    ):
        one = found[key, way]
        series = []
        for group, style in zip(groups, ("accent", "plus", "minus"), strict=True):
            place = [f.group for f in one.audit.findings].index(group)
            series.append(Series(group, one.audit.shares[place], one.audit.shares_error[place], style))
            rows += [
                {
                    "world": one.world.title,
                    "translator": one.translator.label,
                    "group": group,
                    "feature": f,
                    "value": v,
                    "std_error": s,
                }
                for f, v, s in zip(PLAYERS, one.audit.shares[place], one.audit.shares_error[place], strict=True)
            ]
        title = f"Through which features groups are treated differently: {one.world.title}, {one.translator.label}"
        blocks.append(
            Bars(title, PLAYERS, tuple(series), "Not to be believed: it did not pass." if one.doubted else "")
        )
    blocks.append(Table("shares", pd.DataFrame(rows), shown=False))
    return tuple(blocks)
