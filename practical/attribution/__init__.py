"""Explanations: `method(model, images, targets, *, options)` -> maps, one an image."""

from practical.attribution.cam import grad_cam, grad_cam_plus_plus
from practical.attribution.controls import center, edges, random
from practical.attribution.gradients import gradient, gradient_x_input, heatmap, saliency
from practical.attribution.guided import guided_backprop, guided_grad_cam
from practical.attribution.methods import METHODS, NEEDS, Method, methods_table
from practical.attribution.noise import smooth_grad, squaregrad, vargrad
from practical.attribution.paths import (
    Integrated,
    adaptive_integrated_gradients,
    completeness_error,
    expected_gradients,
    integrated_gradients,
)
from practical.attribution.perturbation import occlusion, rise
from practical.attribution.relevance import layerwise_relevance
from practical.attribution.surrogates import kernel_shap, lime, superpixels

__all__ = [
    "METHODS",
    "NEEDS",
    "Integrated",
    "Method",
    "adaptive_integrated_gradients",
    "center",
    "completeness_error",
    "edges",
    "expected_gradients",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_x_input",
    "guided_backprop",
    "guided_grad_cam",
    "heatmap",
    "integrated_gradients",
    "kernel_shap",
    "layerwise_relevance",
    "lime",
    "methods_table",
    "occlusion",
    "random",
    "rise",
    "saliency",
    "smooth_grad",
    "squaregrad",
    "superpixels",
    "vargrad",
]
