"""What a benchmark measures, where nobody has chosen: all that data set and model have it for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from practical.attribution import METHODS
from practical.data import Dataset
from practical.evaluation.measures import MEASURES, NEEDS
from practical.models import Classifier


def method_options(height: int, width: int) -> dict[str, dict[str, Any]]:
    """Return the options that differ from a method's defaults, for images of that size.

    Squares of a quarter of the image, as in the notebook; and fewer samples for the methods that
    would otherwise take most of the time.
    """
    side = min(height, width)
    window = max(1, side // 4)
    return {
        "occlusion": {"window": window, "stride": max(1, window // 2), "baseline": "mean"},
        "rise": {"samples": 1000},
        "lime": {"samples": 500},
        "kernel_shap": {"samples": 500},
        "expected_gradients": {"samples": 100},
    }


def choose_methods(names: Sequence[str] | None, model: Any) -> list[str]:
    """Return the methods of those names, by default all that suit the model."""
    if names is None:
        return [name for name, method in METHODS.items() if method.suits(model)]
    for name in names:
        if not METHODS[name].suits(model):
            raise ValueError(
                f"methods must suit the model: {name} needs {METHODS[name].needs}, which a "
                f"{type(model).__name__} does not have"
            )
    return list(dict.fromkeys(names))


def choose_measures(
    names: Sequence[str] | None, dataset: Dataset, model: Any, shuffled: Any
) -> list[str]:
    """Return the measures of those names, by default all that have what they need."""
    has = _what_there_is(dataset, model, shuffled)
    if names is None:
        return [name for name, measure in MEASURES.items() if has[measure.needs]]
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"measures must be among {', '.join(MEASURES)}, got {name!r}")
        if not has[MEASURES[name].needs]:
            wanted = NEEDS[MEASURES[name].needs]
            raise ValueError(f"measures must have what they need: {name} needs {wanted}")
    return [name for name in MEASURES if name in names]


def _what_there_is(dataset: Dataset, model: Any, shuffled: Any) -> dict[str, bool]:
    """Return for each thing that a measure may need whether it is there."""
    classes = len(dataset.class_names)
    return {
        "": True,
        "masks": dataset.masks is not None,
        "pairs": bool(np.bincount(dataset.labels, minlength=classes).min() > 1),
        "layers": isinstance(model, Classifier),
        "shuffled": shuffled is not None,
    }
