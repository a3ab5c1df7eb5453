"""Recipes: small documented functions that return a Method."""

from pellucid.methods.cam import cam, counterfactual_grad_cam, grad_cam
from pellucid.methods.control import random_attribution
from pellucid.methods.games import (
    banzhaf,
    exact_shapley,
    kernel_shap,
    permutation_shapley,
    regression_shapley,
    shapley_sampling,
)
from pellucid.methods.gradient import expected_gradients, input_x_gradient, integrated_gradients, saliency, smooth_grad
from pellucid.methods.removal import feature_ablation

CATALOGUE = (
    saliency,
    input_x_gradient,
    integrated_gradients,
    expected_gradients,
    smooth_grad,
    cam,
    grad_cam,
    counterfactual_grad_cam,
    feature_ablation,
    random_attribution,
)
"""Every recipe, in the order of the documentation."""

__all__ = [
    "CATALOGUE",
    "banzhaf",
    "cam",
    "counterfactual_grad_cam",
    "exact_shapley",
    "expected_gradients",
    "feature_ablation",
    "grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "kernel_shap",
    "permutation_shapley",
    "random_attribution",
    "regression_shapley",
    "saliency",
    "shapley_sampling",
    "smooth_grad",
]
