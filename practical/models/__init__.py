"""Classifiers: build, load, save, and ask them."""

from practical.models.classifier import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Classifier,
    from_torchvision,
    new_resnet,
)
from practical.models.loading import load_model
from practical.models.precision import with_precision
from practical.models.predict import check_rows, predict
from practical.models.size import Size, size
from practical.models.split import Split

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Classifier",
    "Size",
    "Split",
    "check_rows",
    "from_torchvision",
    "load_model",
    "new_resnet",
    "predict",
    "size",
    "with_precision",
]
