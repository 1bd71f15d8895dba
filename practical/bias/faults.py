"""What is wrong with a data set: an artefact that goes with a class, and ways to take it apart."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from practical._names import listed
from practical.bias.artefacts import ARTEFACTS, COLOURED, check_only
from practical.data import Dataset

WAYS = ("aligned", "swapped", "shuffled", "removed")


@dataclass(frozen=True)
class Fault:
    """An artefact that goes with a class of a data set.

    Raises:
        ValueError: If no artefact is of this name.
    """

    artefact: str  # a name in `ARTEFACTS`
    only: int | None = None  # the class that carries it; None: all, or 0 where there is no colour
    strength: float = 1.0  # in (0, 1]
    share: float = 1.0  # of the carrying classes' images, in (0, 1]
    options: dict[str, Any] = field(default_factory=dict)  # the artefact's own: {"size": 0.1}

    def __post_init__(self) -> None:
        if self.artefact not in ARTEFACTS:
            raise ValueError(
                f"artefact must be one of {', '.join(ARTEFACTS)}, got {self.artefact!r}"
            )
        if self.only is None and self.artefact not in COLOURED:
            object.__setattr__(self, "only", 0)


class Biased(NamedTuple):
    """A data set with an artefact, and where it is."""

    dataset: Dataset
    masks: Bool[np.ndarray, "n h w"]  # True where the artefact is


def plant(dataset: Dataset, fault: Fault, way: str = "aligned", *, seed: int = 0) -> Biased:
    """Return a data set whose images carry a fault's artefact.

    Args:
        dataset: Is left as it is.
        fault: Which artefact, and how plain it is.
        way: "aligned", the artefact goes with the class. "swapped", it says another class: colours
            are those of a random other class, and what one class carried, all others carry; it
            needs at least two classes.
            "shuffled", there are as many as aligned, but they go with no class. "removed", none.
        seed: Decides all that is random.

    Raises:
        ValueError: If an argument breaks its rule; the artefact's are in `bias.artefacts`.
    """
    if way not in WAYS:
        raise ValueError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
    if fault.only is not None:
        check_only(fault.only, dataset.labels)
    images = dataset.images[:]
    if way == "removed":
        none = np.zeros(images.shape[:3], bool)
        return Biased(replace(dataset, images=images), none)
    classes = len(dataset.class_names)
    if way == "swapped" and classes < 2:
        raise ValueError(
            'way must not be "swapped" for a data set of fewer than two classes, for the artefact '
            f"would say another one, got {classes}: {listed(dataset.class_names)}"
        )
    key, labels = jax.random.key(seed), _said(dataset.labels, fault, way, classes, seed)
    options: dict[str, Any] = {"only": fault.only, "strength": fault.strength, **fault.options}
    options["share"] = fault.share
    if fault.artefact in COLOURED:
        options["classes"] = classes
    if fault.artefact == "background":
        options["objects"] = None if dataset.masks is None else dataset.masks[:]
    planted = ARTEFACTS[fault.artefact](images, labels, key, **options)
    return Biased(replace(dataset, images=planted.images), planted.masks)


def _said(
    labels: Int[np.ndarray, " n"], fault: Fault, way: str, classes: int, seed: int
) -> Int[np.ndarray, " n"]:
    """Return the class that each image's artefact says."""
    rng = np.random.default_rng([seed, 1])
    if way == "aligned":
        return labels
    if way == "shuffled":
        return rng.permutation(labels)
    if fault.only is None:
        return (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(labels == fault.only, (fault.only + 1) % classes, fault.only)
