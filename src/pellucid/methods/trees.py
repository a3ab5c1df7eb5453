"""Exact Shapley values of tree ensembles, by shap's C++ implementation (the extra ``pellucid[shap]``)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pellucid.core import removal as absence
from pellucid.core.errors import Unsupported
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.removal import Marginal
from pellucid.core.settings import checked
from pellucid.core.space import Identity
from pellucid.models.sklearn import SklearnModel

_OTHERS = "use kernel_shap() or permutation_shapley()"
_MISS = 1e-3  # of the largest values: what shap's single precision may cost


@checked
def tree_shap(background: Any = None) -> Method:
    """Exact Shapley values of a tree ensemble in polynomial time.

    Two different games: with a ``background`` (R, features) absent features take their values from its rows, as in
    ``exact_shapley(removal=marginal(background))`` ("interventional"); without one, absent features follow the training
    rows down the trees ("path-dependent"), which gives credit to features that the model does not use on the way.
    ``details["game"]`` says which. For scikit-learn trees, forests and boosting; others, players of several columns and
    reads that are not sums over trees (probabilities of boosting: wrap ``model.decision_function``) are refused. Σ φ =
    f(x) - φ_0, checked. Returns values (B, features). Cost: no evaluations of yours; O(T L D²) a row without, O(T L R)
    with a background, for T trees of L leaves and depth D. Source: lundberg2020.
    """
    return Trees(None if background is None else absence.rows_of(background, "tree_shap"))


@dataclass(frozen=True)
class Trees(Method):
    """See ``tree_shap``."""

    source: Marginal | None
    name: str = "tree_shap"
    promise: ClassVar[str | None] = "completeness"

    def attribute(self, question: Question) -> Result:
        model = question.model
        if not isinstance(model, SklearnModel):
            raise Unsupported(f"{self.name}: {model.name} is not a tree ensemble of scikit-learn; {_OTHERS}")
        if not isinstance(question.space, Identity) or question.z.ndim != 2:
            raise Unsupported(f"{self.name}: explains the columns of a table and nothing else; {_OTHERS}")
        if question.target.read not in ("raw", model.scale):  # "prob" of probabilities, "logit" of logits
            raise self._differs(question, "that read is no sum over trees")
        order = self._columns(question)
        outputs = question.here()
        rows = None if self.source is None else model.table(self.source.rows(question))
        values, base = self._values(model, model.table(question.x), rows, outputs)
        parts = torch.from_numpy(values).double()
        level = torch.from_numpy(base).double().expand(len(parts), -1)
        columns = question.columns
        if columns is not None and int(columns.max()) >= parts.shape[2]:
            raise self._differs(question, "it has other columns")
        if columns is not None:
            column = columns.cpu().reshape(-1, 1)
            parts = parts.gather(2, column.unsqueeze(1).expand(-1, parts.shape[1], 1))
            level = level.gather(1, column)
        self._check(question, parts.sum(1) + level, outputs.cpu().double(), np.abs(values).max() + np.abs(base).max())
        game = "path-dependent: absent features follow the training rows"
        if self.source is not None:
            game = "interventional: absent features come from the background"
        return Result(parts[:, order], base=level, details={"game": game}, outputs=outputs)

    def _columns(self, question: Question) -> Tensor:
        """The column of every player; each is one."""
        width, players = question.z.shape[1], question.players
        if players is None:
            return torch.arange(width)
        labels = players.labels.cpu()
        if players.by_row or players.n != width or len(torch.unique(labels)) != width:
            raise Unsupported(
                f"{self.name}: players must be single columns, since Shapley values of groups are no sums; {_OTHERS}"
            )
        return labels.argsort()

    def _values(
        self, model: SklearnModel, table: Any, background: Any, outputs: Tensor
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Values (B, features, K) and base values (K,) of every output of the estimator."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # shap's own, about its own imports
                import shap
        except ImportError:
            raise Unsupported(
                f"{self.name}: shap is not installed; run pip install 'pellucid[shap]', or {_OTHERS}"
            ) from None
        kind = "tree_path_dependent" if background is None else "interventional"
        try:
            explainer = shap.TreeExplainer(model.estimator, background, feature_perturbation=kind)
            values = np.asarray(explainer.shap_values(table, check_additivity=False), dtype=np.float64)
            base = np.asarray(explainer.expected_value, dtype=np.float64).reshape(-1)
        except Exception as error:  # shap raises many kinds for models that it does not know
            raise Unsupported(f"{self.name}: shap cannot explain a {model.name} ({error}); {_OTHERS}") from error
        if values.ndim == 2:
            values = values[:, :, None]
        if values.shape[2] == 1 and model.scale == "logit":  # one score of two classes stands for the pair (-d, d)
            values, base = np.concatenate([-values, values], 2), np.concatenate([-base, base])
        return values, base

    def _check(self, question: Question, total: Tensor, outputs: Tensor, size: float) -> None:
        if total.shape != outputs.shape:
            raise self._differs(question, "it has other columns")
        miss = float((total - outputs).abs().amax())
        if miss > _MISS * float(size):
            raise self._differs(question, f"off by {miss:.3g}")

    def _differs(self, question: Question, how: str) -> Unsupported:
        return Unsupported(
            f"{self.name}: what the trees add up to is not the explained output of {question.model.name} "
            f"(read={question.target.read_name!r}): {how}; explain the raw score, wrap(model.decision_function), or "
            f"{_OTHERS}"
        )
