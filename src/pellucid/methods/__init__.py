"""Recipes: small documented functions that return a Method."""

from pellucid.methods.gradient import expected_gradients, input_x_gradient, integrated_gradients, saliency, smooth_grad

CATALOGUE = (saliency, input_x_gradient, integrated_gradients, expected_gradients, smooth_grad)
"""Every recipe, in the order of the documentation."""

__all__ = ["CATALOGUE", "expected_gradients", "input_x_gradient", "integrated_gradients", "saliency", "smooth_grad"]
