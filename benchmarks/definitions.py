"""What RISE, Xplique and ROAD measure, written out for one image as their authors' code does it.

NumPy and PyTorch, images (3, H, W) in [0, 1] and float64. A model maps (n, 3, H, W) to logits.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse import csc_matrix, lil_matrix
from scipy.sparse.linalg import spsolve

Logits = Callable[[torch.Tensor], torch.Tensor]


def rise_blur(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return RISE's blurred images: `gkern(11, 5)`, in normalised space, zeros outside.

    Its kernel is SciPy's Gaussian of a single pixel *within* 11x11, mirrored at the edges, and so
    nearly flat.
    """
    pixel = np.zeros((11, 11))
    pixel[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(pixel, 5)).expand(3, 1, 11, 11)
    blurred = torch.nn.functional.conv2d((images - mean) / std, kernel, padding=5, groups=3)
    return blurred * std + mean


def rise_curve(
    model: Logits, start: torch.Tensor, finish: torch.Tensor, heatmap: np.ndarray, target: int
) -> tuple[np.ndarray, float]:
    """Return `CausalMetric.single_run`'s scores and their `auc`, `width` pixels a step."""
    pixels, step = heatmap.size, start.shape[2]
    order = np.flip(np.argsort(heatmap.ravel()))
    steps = (pixels + step - 1) // step
    now, last = start.reshape(3, -1).clone(), finish.reshape(3, -1)
    shown = []
    for i in range(steps + 1):
        shown.append(now.reshape(start.shape).clone())
        chosen = order[step * i : step * (i + 1)].copy()
        now[:, chosen] = last[:, chosen]
    scores = probabilities(model, torch.stack(shown))[:, target]
    return scores, (scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


def xplique_curve(
    model: Logits, start: torch.Tensor, end: torch.Tensor, explanation: np.ndarray, target: int
) -> tuple[np.ndarray, float]:
    """Return `CausalFidelity.detailed_evaluate`'s scores in ten steps, and `evaluate`'s area.

    The explanation is (H, W, C); the model's raw output is followed.
    """
    order = np.argsort(explanation.mean(-1).ravel())[::-1]
    shown = []
    for step in np.linspace(0, order.size, 10 + 1, dtype=np.int32):
        flat = start.reshape(3, -1).clone()
        chosen = order[:step].copy()
        flat[:, chosen] = end.reshape(3, -1)[:, chosen]
        shown.append(flat.reshape(start.shape))
    with torch.no_grad():
        scores = model(torch.stack(shown))[:, target].numpy()
    return scores, np.mean(scores[:-1] + scores[1:]) * 0.5


def road_impute(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Return ROAD's linear imputation of (3, H, W), without noise, by a direct solve."""
    _, height, width = image.shape
    number = np.full((height, width), -1)
    places = np.argwhere(removed)
    number[removed] = np.arange(len(places))
    matrix, right = lil_matrix((len(places), len(places))), np.zeros((len(places), 3))
    for k, (y, x) in enumerate(places):
        for dy, dx in np.ndindex(3, 3):
            row, column = y + dy - 1, x + dx - 1
            inside = 0 <= row < height and 0 <= column < width
            if (dy, dx) == (1, 1) or not inside:
                continue
            weight = 1 / 6 if 1 in (dy, dx) else 1 / 12
            matrix[k, k] += weight
            if removed[row, column]:
                matrix[k, number[row, column]] -= weight
            else:
                right[k] += weight * image[:, row, column]
    filled = image.copy()
    filled[:, removed] = spsolve(csc_matrix(matrix), right).T
    return filled


def probabilities(model: Logits, images: torch.Tensor) -> np.ndarray:
    """Return softmax probabilities, (n, classes)."""
    with torch.no_grad():
        return torch.cat([model(part).softmax(1) for part in torch.split(images, 64)]).numpy()
