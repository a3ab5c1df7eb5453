"""Recipes: small documented functions that return a Method."""

from pellucid.methods.cam import cam, counterfactual_grad_cam, grad_cam, grad_cam_plus_plus
from pellucid.methods.control import random_attribution
from pellucid.methods.games import (
    banzhaf,
    exact_shapley,
    kernel_shap,
    permutation_shapley,
    regression_shapley,
    shapley_sampling,
)
from pellucid.methods.gradient import (
    expected_gradients,
    input_x_gradient,
    integrated_gradients,
    path_integrated_gradients,
    saliency,
    smooth_grad,
    var_grad,
)
from pellucid.methods.mask import meaningful_perturbation, meaningful_perturbation_as_released
from pellucid.methods.perturbation import lime, lime_tabular, occlusion, rise
from pellucid.methods.removal import feature_ablation
from pellucid.methods.rules import anchors

CATALOGUE = (
    saliency,
    input_x_gradient,
    integrated_gradients,
    path_integrated_gradients,
    expected_gradients,
    smooth_grad,
    var_grad,
    cam,
    grad_cam,
    counterfactual_grad_cam,
    grad_cam_plus_plus,
    meaningful_perturbation,
    meaningful_perturbation_as_released,
    feature_ablation,
    occlusion,
    rise,
    lime,
    lime_tabular,
    anchors,
    random_attribution,
)
"""Every recipe, in the order of the documentation."""

__all__ = [
    "CATALOGUE",
    "anchors",
    "banzhaf",
    "cam",
    "counterfactual_grad_cam",
    "exact_shapley",
    "expected_gradients",
    "feature_ablation",
    "grad_cam",
    "grad_cam_plus_plus",
    "input_x_gradient",
    "integrated_gradients",
    "kernel_shap",
    "lime",
    "lime_tabular",
    "meaningful_perturbation",
    "meaningful_perturbation_as_released",
    "occlusion",
    "path_integrated_gradients",
    "permutation_shapley",
    "random_attribution",
    "regression_shapley",
    "rise",
    "saliency",
    "shapley_sampling",
    "smooth_grad",
    "var_grad",
]
