"""Recipes: small documented functions that return a Method."""

from pellucid.methods.cam import cam, counterfactual_grad_cam, grad_cam, grad_cam_plus_plus
from pellucid.methods.closed_form import linear_shap, linear_shap_correlated, max_shap
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
from pellucid.methods.influence import qii, set_qii, unary_qii
from pellucid.methods.mask import meaningful_perturbation, meaningful_perturbation_as_released
from pellucid.methods.perturbation import lime, lime_tabular, occlusion, rise
from pellucid.methods.removal import feature_ablation
from pellucid.methods.retraining import shapley_regression_values
from pellucid.methods.robustness import counterfactual_cfx, greedy, greedy_as, greedy_as_released, one_step_banzhaf
from pellucid.methods.rules import anchors
from pellucid.methods.surrogates import kernel_shap_lasso, low_order_shap, shapley_interactions
from pellucid.methods.trees import tree_shap

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
    exact_shapley,
    permutation_shapley,
    shapley_sampling,
    kernel_shap,
    kernel_shap_lasso,
    regression_shapley,
    banzhaf,
    low_order_shap,
    shapley_interactions,
    linear_shap,
    linear_shap_correlated,
    max_shap,
    tree_shap,
    shapley_regression_values,
    unary_qii,
    set_qii,
    qii,
    greedy_as,
    greedy,
    one_step_banzhaf,
    greedy_as_released,
    counterfactual_cfx,
    random_attribution,
)
"""Every recipe, in the order of the documentation."""

__all__ = [
    "CATALOGUE",
    "anchors",
    "banzhaf",
    "cam",
    "counterfactual_cfx",
    "counterfactual_grad_cam",
    "exact_shapley",
    "expected_gradients",
    "feature_ablation",
    "grad_cam",
    "grad_cam_plus_plus",
    "greedy",
    "greedy_as",
    "greedy_as_released",
    "input_x_gradient",
    "integrated_gradients",
    "kernel_shap",
    "kernel_shap_lasso",
    "lime",
    "lime_tabular",
    "linear_shap",
    "linear_shap_correlated",
    "low_order_shap",
    "max_shap",
    "meaningful_perturbation",
    "meaningful_perturbation_as_released",
    "occlusion",
    "one_step_banzhaf",
    "path_integrated_gradients",
    "permutation_shapley",
    "qii",
    "random_attribution",
    "regression_shapley",
    "rise",
    "saliency",
    "set_qii",
    "shapley_interactions",
    "shapley_regression_values",
    "shapley_sampling",
    "smooth_grad",
    "tree_shap",
    "unary_qii",
    "var_grad",
]
