"""The methods that are compared, as the paper names them, with this library's settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from pellucid import attack, methods
from pellucid.core import removal
from pellucid.core.method import Method
from pellucid.experiments.published import AS
from pellucid.experiments.settings import Settings

IRRELEVANT, RELEVANT = "irrelevant", "relevant"
WHOLE, TOP, TAG = 0.447, 0.199, 0.049
"""Shares of 784 pixels that are grown: 350 in nine steps of 39, 156 in four, 38 in one."""


@dataclass(frozen=True)
class Contestant:
    """A method under its label. ``criterion``: the one that it optimises; ``zero``: whether 0 stands for absence in it,
    so that insertion and deletion at 0 are its own game; ``ablation``: a part of Greedy-AS (Table 3). ``parts``: it is
    asked about the rows' players, not about every entry; ``only``: the one group of numbers it has."""

    key: str
    label: str
    method: Method
    criterion: str | None = None
    zero: bool = False
    ablation: bool = False
    parts: bool = False
    only: str | None = None

    @property
    def paper(self) -> str:
        """The paper's name for it."""
        return self.label.removesuffix(" S̄r").removesuffix(" Sr")

    def matched(self, criterion: str) -> bool:
        """Whether the criterion is what the method itself optimises or assumes."""
        kind, _, reference = criterion.partition("/")
        if kind.startswith("robustness"):
            return self.criterion is not None
        return self.zero and kind in ("insertion", "deletion") and reference == "0"


_SHORT = attack.minimum_norm(8)
"""What finds radii on photos, where a step takes two hundred times as long as on digits."""
_SEARCH: dict[str, dict[str, Any]] = {"digits": {}, "text": {}, "photos": {"attack": _SHORT}}
_SHAP: dict[str, dict[str, Any]] = {"digits": {}, "text": {}, "photos": {"budget": 512}}
_STEP: dict[str, dict[str, Any]] = {"digits": {}, "text": {"step": 1}, "photos": {"step": 0.1}}


def contestants(settings: Settings, background: Tensor, fraction: float = WHOLE) -> tuple[Contestant, ...]:
    """Every method of this kind of rows; those that grow sets do so up to ``fraction`` of what is ranked."""
    search, step = _SEARCH[settings.rows], _STEP[settings.rows]
    grown: list[tuple[str, str, Callable[[str], Method]]] = [
        (AS, "greedy_as", partial(methods.greedy_as, fraction=fraction, subsets=settings.subsets, **search, **step)),
        ("Greedy", "greedy", partial(methods.greedy, fraction=fraction, **search, **step)),
        ("Banzhaf", "banzhaf", partial(methods.one_step_banzhaf, subsets=settings.banzhaf, **search)),
    ]
    each = (
        Contestant("grad", "Grad", methods.saliency()),
        Contestant("ig", "IG", methods.integrated_gradients(), zero=True),
        Contestant("eg", "EG", methods.expected_gradients(background)),
        Contestant("shap", "SHAP", methods.kernel_shap(**_SHAP[settings.rows]), zero=True, parts=True),
        Contestant("loo", "LOO", methods.feature_ablation(), zero=True, parts=True),
        Contestant("bbmp", "BBMP", methods.meaningful_perturbation()),
        Contestant("cfx", "CFX", methods.counterfactual_cfx(**search)),
        *(
            Contestant(f"{key}_{which}", f"{label} {sign}", made(which), which, ablation=label != AS, parts=True)
            for label, key, made in grown
            for which, sign in ((IRRELEVANT, "S̄r"), (RELEVANT, "Sr"))
        ),
        Contestant(
            "anchor", "Anchor", methods.anchors(removal=removal.marginal(background)), parts=True, only="keywords"
        ),
        Contestant("random", "Random", methods.random_attribution(), parts=True),
    )
    return tuple(c for c in each if c.key in settings.kind.methods)
