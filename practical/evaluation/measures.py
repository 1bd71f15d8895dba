"""The columns of the benchmark: each metric with its protocol, its cost, and what it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from practical import metrics
from practical._inputs import ChunkSize


class Context(NamedTuple):
    """What a measure may look at: some images, and one explanation of them."""

    model: Any
    method: Callable  # method(model, images, targets) -> heatmaps
    images: jax.Array  # (B, H, W, C)
    targets: np.ndarray  # (B,) the classes that were explained
    heatmaps: np.ndarray  # (B, H, W)
    masks: Any  # (B, H, W) bool, where the evidence is; or None
    randomised: Any  # the model with all weights shuffled
    shuffled: Any  # a model trained on shuffled labels
    keys: jax.Array  # (B,) one an image, the same in any batch
    chunk_size: ChunkSize  # images in flight, of metrics that ask the model


NEEDS = {
    "masks": "a data set with masks",
    "pairs": "at least two images of each class, for the mosaics",
    "layers": "a models.Classifier",
    "shuffled": "a model trained on shuffled labels",
}


@dataclass(frozen=True)
class Measure:
    """One column of the benchmark."""

    function: Callable[[Context], Any]  # -> (B,)
    higher: bool | None  # whether high is good; None for neither
    calls: int = 0  # of the model, for each image
    needs: str = ""  # a key of NEEDS: what not every data set and model has
    repeats: int = 0  # further explanations of each image; then only some images are measured


def _curve(kind: Callable, protocol: str) -> Callable[[Context], Any]:
    return lambda c: _ask(kind, c, protocol=protocol).auc


def _sampled(metric: Callable, **options: Any) -> Callable[[Context], Any]:
    return lambda c: _ask(metric, c, key=c.keys, **options)


def _ask(metric: Callable, c: Context, **options: Any) -> Any:
    return metric(c.model, c.images, c.targets, c.heatmaps, chunk_size=c.chunk_size, **options)


def _on_mask(metric: Callable) -> Callable[[Context], Any]:
    return lambda c: metric(c.heatmaps, c.masks).value


def _alike(other: str) -> Callable[[Context], Any]:
    def measure(c: Context):
        def method(model, images, targets):
            return c.heatmaps if model is c.model else c.method(model, images, targets)

        return metrics.label_randomization(
            c.model, c.images, c.targets, method, getattr(c, other)
        ).rank_correlation

    return measure


# Each metric's name in the table. The truth comes first: on `shapes`, the masks.
MEASURES: dict[str, Measure] = {
    "relevance_rank": Measure(_on_mask(metrics.relevance_rank), True, needs="masks"),
    "relevance_mass": Measure(_on_mask(metrics.relevance_mass), True, needs="masks"),
    "pointing_game": Measure(_on_mask(metrics.pointing_game), True, needs="masks"),
    "focus": Measure(
        lambda c: metrics.focus(c.heatmaps, c.masks).value, True, needs="pairs", repeats=4
    ),
    "deletion": Measure(_curve(metrics.deletion, "practical"), False, calls=29),
    "insertion": Measure(_curve(metrics.insertion, "practical"), True, calls=29),
    "deletion_rise": Measure(_curve(metrics.deletion, "rise"), False, calls=65),
    "insertion_rise": Measure(_curve(metrics.insertion, "rise"), True, calls=65),
    "deletion_xplique": Measure(_curve(metrics.deletion, "xplique"), False, calls=11),
    "insertion_xplique": Measure(_curve(metrics.insertion, "xplique"), True, calls=11),
    "road": Measure(_sampled(metrics.road), True, calls=18),
    "infidelity": Measure(_sampled(metrics.infidelity, samples=100), False, calls=100),
    "sensitivity_n": Measure(_sampled(metrics.sensitivity_n, samples=100), True, calls=100),
    "max_sensitivity": Measure(
        lambda c: metrics.max_sensitivity(
            c.model, c.images, c.targets, c.method, samples=3, key=c.keys
        ),
        False,
        repeats=4,
    ),
    "parameter_randomization": Measure(_alike("randomised"), False, needs="layers", repeats=1),
    "label_randomization": Measure(_alike("shuffled"), False, needs="shuffled", repeats=1),
    "sparseness": Measure(lambda c: metrics.sparseness(c.heatmaps), None),
    "entropy": Measure(lambda c: metrics.entropy(c.heatmaps), None),
}
