"""The other side of `speed.py`: who does the same work as `practical`, and in which layout."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import libraries
import loops
import numpy as np
import torch
from layouts import Example, synchronise

WORKS: dict[str, dict[str, Callable[[Example, int], Any]]] = {
    "forward": {"torch": loops.forward},
    "gradient": {"torch": loops.gradient, "captum": libraries.captum_gradient},
    "integrated_gradients": {
        "torch": loops.integrated_gradients,
        "captum": libraries.captum_integrated_gradients,
    },
    "smooth_grad": {"torch": loops.smooth_grad, "captum": libraries.captum_smooth_grad},
    "occlusion": {"torch": loops.occlusion, "captum": libraries.captum_occlusion},
    "deletion_insertion": {"torch": loops.deletion_insertion},
    "pixel_flipping": {
        "torch": loops.pixel_flipping,
        "quantus": libraries.quantus_pixel_flipping,
    },
    "spectra": {"torch": loops.spectra},
    "spectra_images": {"torch": loops.spectra_images},
}
LIBRARIES = ("torch", "captum", "quantus")


def installed() -> list[str]:
    """Return those of the libraries that are there."""
    return [name for name in LIBRARIES if importlib.util.find_spec(name) is not None]


def names(work: str, libraries: Sequence[str], variants: Sequence[str]) -> list[str]:
    """Return "LIBRARY, VARIANT" of all that does a work; Quantus copies models, so eager alone."""
    return [
        f"{library}, {variant}"
        for library in WORKS[work]
        if library in libraries
        for variant in (variants if library != "quantus" else ["eager"])
    ]


def compute(name: str, work: str, of: Example, count: int) -> Any:
    """Return a peer's answer, when it is there, of an example in the peer's variant."""
    answer = WORKS[work][name.partition(", ")[0]](of, count)
    synchronise()
    return answer


def arrays(answer: list[torch.Tensor]) -> list[np.ndarray]:
    """Return an answer as NumPy arrays, images NHWC."""
    found = [one.detach().cpu().numpy() for one in answer]
    return [one.transpose(0, 2, 3, 1) if one.ndim == 4 else one for one in found]
