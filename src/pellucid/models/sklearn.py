"""scikit-learn estimators and Pipelines (and others with the same methods) behind the model contract."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import BadInput
from pellucid.core.model import Model
from pellucid.models.options import Options, as_array, calling, tensors

METHODS = {
    "predict_proba": "prob",
    "predict_log_proba": "logit",
    "decision_function": "logit",
    "score_samples": "value",
    "predict": "value",
}
"""What can be explained of an estimator, and the scale it is on for a classifier."""


def is_estimator(net: Any) -> bool:
    """Whether something is an estimator, told without importing scikit-learn."""
    if any(kind.__module__.partition(".")[0] == "sklearn" for kind in type(net).__mro__):
        return True
    return not callable(net) and hasattr(net, "fit") and (hasattr(net, "predict") or hasattr(net, "predict_proba"))


class SklearnModel(Model):
    """A fitted estimator as a function of a table (B, features).

    A classifier is read at ``predict_proba`` (scale "prob"), else at ``decision_function`` (scale "logit"), where the
    one column of two classes becomes the pair (-d, d), so that the larger one is the class that ``predict`` gives; a
    regressor at ``predict``, an outlier detector at ``decision_function`` and a density at ``score_samples`` (scale
    "value"). Outputs are labelled by ``classes_`` in their order: target 0 is the first class, "cat" the class "cat".

    An estimator that was fitted on a DataFrame gets DataFrames with its column names.
    """

    reads_frames = True

    def __init__(self, estimator: Any, options: Options, method: str | None = None) -> None:
        self.name = type(_last(estimator)).__name__
        _refuse_unfitted(estimator, self.name)
        self._method = _method(estimator, self.name) if method is None else method
        classes = getattr(estimator, "classes_", None)
        if isinstance(classes, list) or self._method in ("predict", "score_samples"):
            classes = None  # several outputs have lists of classes
        named = classes is not None or self._method == "predict_proba"
        scale = METHODS[self._method] if named else "value"
        options.onto(self, scale)
        self._estimator, self._options = estimator, options
        self._pair = classes is not None and self._method == "decision_function" and len(classes) == 2
        if self.labels is None and classes is not None:
            self.labels = tuple(str(label) for label in classes)
        names = getattr(estimator, "feature_names_in_", None)
        self.columns = None if names is None else tuple(str(name) for name in names)
        self._plain = names is None and hasattr(estimator, "n_features_in_")

    @property
    def estimator(self) -> Any:
        """The fitted estimator itself."""
        return self._estimator

    @property
    def method(self) -> str:
        """The method of the estimator that gives the outputs."""
        return self._method

    def table(self, x: Tensor) -> Any:
        """Rows as the estimator gets them, (B, features) numpy."""
        return as_array(self._options.prepared(x))

    def __call__(self, x: Tensor) -> Any:
        x = self._options.prepared(x)
        with calling(f"{self.name}.{self._method}", x):
            raw = getattr(self._estimator, self._method)(self._table(x))
        raw = tensors(raw, torch.device("cpu"))
        return torch.stack([-raw, raw], 1) if self._pair and raw.ndim == 1 else raw

    def matrix(self, raw: Any) -> Tensor:
        if isinstance(raw, (list, tuple)):
            raise BadInput(
                f"{self.name}.{self._method} returned a list of {len(raw)} outputs, one for each thing it predicts; "
                "say which to read: Target(read=lambda out: out[0][:, 1])"
            )
        return super().matrix(raw)

    def _table(self, x: Tensor) -> Any:
        array = as_array(x)
        if self.frame is not None and not (self._plain and not self.frame.text):
            return self.frame.decode(array)
        if self.columns is not None and array.shape[1:] == (len(self.columns),):
            import pandas as pd

            return pd.DataFrame(array, columns=list(self.columns))
        return array


def _last(estimator: Any) -> Any:
    """The estimator at the end of a Pipeline, which names the model."""
    steps = getattr(estimator, "steps", None)
    return _last(steps[-1][1]) if steps else estimator


def _refuse_unfitted(estimator: Any, name: str) -> None:
    if not any(kind.__module__.partition(".")[0] == "sklearn" for kind in type(estimator).__mro__):
        return  # others say so themselves when they are called
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise BadInput(f"{name} is not fitted; call .fit(X, y) before explaining it") from None
    except TypeError as error:
        raise BadInput(f"{name} cannot be explained: {error}") from None


def _method(estimator: Any, name: str) -> str:
    """The method that gives the outputs."""
    if hasattr(estimator, "predict_proba"):
        return "predict_proba"
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        if not hasattr(estimator, "decision_function"):
            raise BadInput(
                f"{name} gives labels and no scores, so there is no number to explain; "
                "fit it inside sklearn.calibration.CalibratedClassifierCV, or wrap a function that returns scores"
            )
        if getattr(_last(estimator), "decision_function_shape", None) == "ovo" and len(classes) > 2:
            raise BadInput(
                f"{name} with decision_function_shape='ovo' scores pairs of classes, not classes; "
                "set decision_function_shape='ovr'"
            )
        return "decision_function"
    for method in ("decision_function", "score_samples"):
        if hasattr(estimator, method) and not hasattr(estimator, "transform"):
            return method
    if hasattr(estimator, "predict") and not hasattr(estimator, "labels_"):
        return "predict"
    what = "the numbers of clusters" if hasattr(estimator, "labels_") else "no predictions"
    raise BadInput(
        f"{name} gives {what}, which cannot be explained; wrap a function of its scores, "
        "such as wrap(lambda x: -kmeans.transform(x))"
    )
