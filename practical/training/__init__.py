"""Training and fine-tuning; `python -m practical.training --help` is the same by hand."""

from practical.augmentation import AUGMENTATIONS
from practical.training.fitting import (
    Fitted,
    Freeze,
    accuracy,
    accuracy_per_class,
    fit,
    seconds_per_step,
    shuffle_labels,
)

__all__ = [
    "AUGMENTATIONS",
    "Fitted",
    "Freeze",
    "accuracy",
    "accuracy_per_class",
    "fit",
    "seconds_per_step",
    "shuffle_labels",
]
