"""Classifiers that learned an artefact in place of their task: making, finding and mending them."""

from practical.bias.artefacts import (
    ARTEFACTS,
    COLOURED,
    PLACELESS,
    Planted,
    background,
    blur,
    border,
    checkerboard,
    class_colours,
    colored_patch,
    sticker,
    tint,
    watermark,
)
from practical.bias.faults import WAYS, Biased, Fault, plant

__all__ = [
    "ARTEFACTS",
    "COLOURED",
    "PLACELESS",
    "WAYS",
    "Biased",
    "Fault",
    "Planted",
    "background",
    "blur",
    "border",
    "checkerboard",
    "class_colours",
    "colored_patch",
    "plant",
    "sticker",
    "tint",
    "watermark",
]
