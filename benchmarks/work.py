"""What `speed.py` measures: the networks and images, and how much of which explanation.

NumPy alone, so that a process with one of the two libraries does not pay for the other.
"""

import re
from typing import NamedTuple

import numpy as np

CHUNK = 32  # images in flight, everywhere and in all libraries: the package's own default
NOISE = 0.15  # SmoothGrad's, in pixel units
OURS = "practical"


class Case(NamedTuple):
    """A network and the images that it is shown."""

    network: str  # torchvision's name
    side: int  # pixels
    images: int

    def __str__(self) -> str:
        return f"{self.network}:{self.side}x{self.images}"


CASES = {"resnet18": Case("resnet18", 160, 8), "resnet50": Case("resnet50", 224, 16)}


class Work(NamedTuple):
    """One thing to compute."""

    what: str
    full: int  # steps, samples, or half windows a side
    few: int  # the same for the heats: enough that a chunk is full
    tolerance: float  # largest root mean square of a difference, over that of the answer


# The gradient of a network with ReLUs jumps: see "Tolerances" in README.md.
WORKS = {
    "forward": Work("forward", 1, 1, 1e-4),
    "gradient": Work("gradient", 1, 1, 5e-2),
    "integrated_gradients": Work("integrated gradients, 50 steps", 50, 4, 5e-2),
    "smooth_grad": Work("SmoothGrad, 32 samples", 32, 4, 5e-2),
    "occlusion": Work("occlusion, 49 squares", 8, 4, 1e-3),
    "deletion_insertion": Work("deletion + insertion, 28 steps", 28, 4, 1e-3),
    "pixel_flipping": Work("pixel flipping, 24 steps", 24, 4, 1e-3),
    "spectra": Work("saliency spectra, one minibatch", 1, 1, 1e-2),
    "spectra_images": Work("saliency spectra, each image", 1, 1, 1e-2),
}


def parse_case(text: str) -> Case:
    """Return the case of a name, or of NETWORK:SIDExIMAGES.

    Raises:
        ValueError: If it is neither.
    """
    if text in CASES:
        return CASES[text]
    match = re.fullmatch(r"(\w+):(\d+)x(\d+)", text)
    if not match:
        raise ValueError(f"a case must be {', '.join(CASES)} or NETWORK:SIDExIMAGES, got {text!r}")
    return Case(match[1], int(match[2]), int(match[3]))


def squares(side: int, parts: int) -> tuple[int, int, int]:
    """Return occlusion's window and stride in pixels, and how many squares that makes."""
    stride = side // parts
    window = 2 * stride
    return window, stride, (-(-(side - window) // stride) + 1) ** 2


def flipped(side: int, steps: int) -> tuple[int, int]:
    """Return how many of an image's values are flipped at a time, and how often.

    At most `steps` times, and each time a divisor of the pixels' number, as Quantus wants it.
    """
    pixels = side * side
    least = min(-(-3 * pixels // steps), pixels)
    step = next(n for n in range(least, pixels + 1) if pixels % n == 0)
    return step, 3 * pixels // step


def maps_without_ties(shape: tuple[int, ...]) -> np.ndarray:
    """Return a random order of each image's values as float32, exact up to 2**24 of them."""
    random = np.random.default_rng(5)
    count = int(np.prod(shape[1:]))
    rows = [random.permutation(count).astype(np.float32) for _ in range(shape[0])]
    return np.stack(rows).reshape(shape)


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Return the largest root mean square of a difference, over that of our array."""
    if [one.shape for one in ours] != [one.shape for one in theirs]:
        return np.inf
    found = [
        np.sqrt(np.mean((one - other.astype(np.float64)) ** 2) / np.mean(one.astype(float) ** 2))
        for one, other in zip(ours, theirs, strict=True)
    ]
    return float(np.max(found))
