"""Explanations: `method(model, images, targets, *, options)` -> maps, one an image."""

import difflib
from collections.abc import Callable

from practical.attribution.cam import grad_cam
from practical.attribution.gradients import (
    completeness_error,
    gradient,
    gradient_x_input,
    heatmap,
    integrated_gradients,
    saliency,
)
from practical.attribution.perturbation import occlusion


class _Methods(dict[str, Callable]):
    """Methods by name; an unknown name is answered with the nearest known one."""

    def __missing__(self, name: str) -> Callable:
        near = difflib.get_close_matches(str(name), self, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"method must be one of {', '.join(self)}, got {name!r}{hint}")


METHODS: dict[str, Callable] = _Methods(
    occlusion=occlusion,
    gradient=gradient,
    saliency=saliency,
    gradient_x_input=gradient_x_input,
    integrated_gradients=integrated_gradients,
    grad_cam=grad_cam,
)

__all__ = [
    "METHODS",
    "completeness_error",
    "grad_cam",
    "gradient",
    "gradient_x_input",
    "heatmap",
    "integrated_gradients",
    "occlusion",
    "saliency",
]
