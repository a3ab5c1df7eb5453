"""The paper's own figures (hsieh2021), as printed: MNIST, ImageNet, Yahoo! Answers."""

from __future__ import annotations

AS = "Greedy-AS"
_T5 = ("Grad", "IG", "SHAP", "LOO", "BBMP", "CFX", "EG", "Random", AS)


def _row(text: str, names: tuple[str, ...] = _T5) -> dict[str, float]:
    return dict(zip(names, map(float, text.split()), strict=True))


_T1 = ("Grad", "IG", "EG", "SHAP", "LOO", "BBMP", "CFX", "Random", AS, "Greedy", "Banzhaf")
_T7 = ("Grad", "IG", "SHAP", "LOO", "BBMP", "CFX", AS)
_T8 = ("Grad", "IG", "LOO", "BBMP", "SHAP", "CFX", "EG", "Random", AS)
_T11 = ("Grad", "IG", "LOO", "BBMP", "SHAP", "CFX", "EG", "Greedy", AS)

FIGURES: dict[str, dict[str, float]] = {
    # Tables 1 and 3
    "robustness_irrelevant": _row("88.00 85.98 93.24 75.48 74.14 78.58 69.88 64.44 98.01 83.57 86.37", _T1),
    "robustness_relevant": _row("91.72 91.97 91.05 101.49 104.38 176.61 102.81 193.75 82.81 171.56 83.59", _T1),
    # Tables 2 and 5
    "insertion/uniform": _row("174.18 177.12 125.93 121.99 108.97 102.05 228.64 51.71 270.75"),
    "deletion/uniform": _row("153.58 150.90 213.32 274.77 587.08 137.69 113.21 312.07 94.24"),
    "insertion/0": _row("393.25 802.57 656.55 706.63 212.12 81.59 450.37 120.65 502.32"),
    "deletion/0": _row("214.81 134.64 66.36 119.91 362.95 840.78 138.57 453.01 252.44"),
    "insertion/0.25": _row("293.92 424.45 412.87 453.29 142.00 77.33 341.05 78.73 455.74"),
    "deletion/0.25": _row("162.24 133.06 115.88 204.75 442.23 354.05 161.28 426.21 90.89"),
    "insertion/0.5": _row("218.18 317.55 136.51 189.87 42.76 86.80 382.31 49.15 479.92"),
    "deletion/0.5": _row("209.83 258.50 271.11 424.66 549.11 90.50 195.47 392.69 155.59"),
    "insertion/0.75": _row("220.90 204.92 79.28 125.73 21.97 163.46 285.66 67.35 325.47"),
    "deletion/0.75": _row("305.17 305.38 481.67 712.46 708.93 89.38 250.57 451.18 176.85"),
    "insertion/1": _row("234.61 206.54 89.83 128.71 25.31 229.02 276.48 81.44 313.66"),
    "deletion/1": _row("364.01 372.18 647.68 956.88 823.90 101.31 310.50 495.91 223.99"),
    "randomised": _row("0.30 0.30 0.11 0.49 0.17 0.26 0.18", _T7),
    "sensitivity": _row("0.45 0.38 0.31 0.38 0.52 0.57 0.20 0.85 0.61", _T8),
    "seconds": _row("0.005 0.023 0.004 4.154 9.673 8.582 6.123 9.532 13.621", _T11),
}

_T9 = ("Grad", "IG", "SHAP", "LOO", "EG", "Random", AS, "CFX")
_T10 = (AS, "Grad", "IG", "SHAP", "LOO", "EG", "CFX", "Random")
TEXT: dict[str, dict[str, float]] = {
    # Table 9
    "robustness_irrelevant": _row("1.97 1.86 1.81 1.74 1.96 1.71 2.13 1.95", _T9),
    "robustness_relevant": _row("2.91 3.14 3.34 4.04 2.99 7.64 2.41 2.96", _T9),
    "insertion/words": _row("0.06 0.06 0.07 0.18 0.20 0.10 0.21 0.05", _T9),
    "deletion/words": _row("2.57 2.96 2.23 2.07 2.07 2.63 1.56 2.35", _T9),
    "insertion/0": _row("2.59 6.31 8.63 3.61 3.34 0.34 3.64 2.95", _T9),
    "deletion/0": _row("5.28 5.64 1.52 3.81 5.12 6.30 4.60 5.83", _T9),
    # Table 10, against the words that people marked
    "precision": _row("0.76 0.71 0.61 0.64 0.56 0.73 0.67 0.25", _T10),
    "precision@1": _row("0.83 0.83 0.83 0.73 0.67 0.90 0.83 0.17 0.93", (*_T10, "Anchor")),
    "precision@2": _row("0.78 0.70 0.67 0.75 0.67 0.75 0.68 0.27", _T10),
    "precision@3": _row("0.78 0.72 0.56 0.61 0.52 0.69 0.67 0.28", _T10),
    "precision@4": _row("0.75 0.67 0.52 0.58 0.48 0.67 0.61 0.29", _T10),
    "precision@5": _row("0.68 0.61 0.50 0.51 0.45 0.63 0.57 0.27", _T10),
}
_PHOTOS = ("Grad", "IG", "EG", "SHAP", "LOO", "BBMP", "CFX", "Random", AS)
PHOTOS: dict[str, dict[str, float]] = {
    # Tables 1 and 3
    "robustness_irrelevant": _row("27.13 26.01 26.88 18.25 22.29 21.56 27.12 17.98 31.62 21.16 24.54", _T1),
    "robustness_relevant": _row("45.53 46.28 48.82 60.02 58.46 158.01 46.10 56.11 43.97 58.45 47.07", _T1),
    # Table 2
    "insertion/uniform": _row("86.16 109.94 150.81 28.06 63.90 135.98 97.33 31.73 183.66", _PHOTOS),
    "deletion/uniform": _row("276.78 256.51 244.88 143.27 290.10 615.13 281.12 314.82 219.52", _PHOTOS),
    # Table 11, for the top 20 %
    "explained": _row("0.024 0.138 0.849 8.536 111.794 25.577 64.270 117.781 135.838", _T11),
}

TESTED = ("Grad", "IG", "SHAP", "LOO", "BBMP", "CFX")
"""Whom Table 4 compares Greedy-AS with on MNIST: a win in every cell of both robustness criteria, insertion and
deletion (at a uniform reference)."""
REFERENCES = ("0", "0.25", "0.5", "0.75", "1", "uniform")
FOREIGN = REFERENCES[1:]
"""References that no compared method takes for absence."""
