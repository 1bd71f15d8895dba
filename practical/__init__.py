"""Explain image classifiers, and measure the explanations.

    dataset = load_dataset("shapes")                            # images in [0, 1], labels, masks
    model = load_model("shapes")                                # images -> logits
    picked = dataset.per_class(2)
    maps = attribution.integrated_gradients(model, picked.images, picked.labels)
    heat = attribution.heatmap(maps)                            # one value a pixel
    curve = metrics.deletion(model, picked.images, picked.labels, heat)
    plotting.plot_curves({"integrated gradients": curve})       # low area: the map is right

The data flows one way, and so do the imports: data, models -> attribution -> metrics -> plotting
and evaluation.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from practical._command import stop_quietly

if TYPE_CHECKING:  # for editors; at run time `__getattr__` below
    from practical import (
        attribution,
        baselines,
        bias,
        data,
        evaluation,
        explainfix,
        metrics,
        models,
        plotting,
        training,
        widgets,
    )
    from practical._compiled import keep_compiled
    from practical.data import Dataset, load_dataset, load_image
    from practical.grading import check
    from practical.models import Classifier, load_model, predict

# A command, `python -m practical...`, starts to load, which takes seconds. Someone else's command
# that imports this package keeps its own Ctrl-C.
if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].partition(".")[0] == "practical":
    stop_quietly()

_MODULES = (
    "attribution", "baselines", "bias", "data", "evaluation", "explainfix", "metrics", "models",
    "plotting", "training", "widgets",
)  # fmt: skip
_NAMES = {
    "check": "grading",
    "keep_compiled": "_compiled",
    "Dataset": "data",
    "load_dataset": "data",
    "load_image": "data",
    "Classifier": "models",
    "load_model": "models",
    "predict": "models",
}

__all__ = [
    "Classifier",
    "Dataset",
    "attribution",
    "baselines",
    "bias",
    "check",
    "data",
    "evaluation",
    "explainfix",
    "keep_compiled",
    "load_dataset",
    "load_image",
    "load_model",
    "metrics",
    "models",
    "plotting",
    "predict",
    "training",
    "widgets",
]


def __getattr__(name: str):
    # On demand: importing the package costs nothing, and plotting needs no training.
    if name in _MODULES:
        return import_module(f"practical.{name}")
    if name in _NAMES:
        return getattr(import_module(f"practical.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'practical' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
