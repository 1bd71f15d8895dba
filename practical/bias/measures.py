"""What convicts a classifier: its accuracy without the artefact, its relevance, and interventions.

Where an explanation points is a suspicion. What happens to the answer when the suspected region
comes and goes is the proof.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from practical._inputs import ArrayLike, Model, check_images
from practical._outputs import predicted_classes, probabilities
from practical.attribution import heatmap
from practical.baselines import Baseline, baseline_images
from practical.bias.faults import Biased, Fault, plant
from practical.data import Dataset
from practical.metrics import Interval, bootstrap_interval, relevance_mass
from practical.models import predict

LEARNED = 0.1  # of accuracy: who loses as much to a swapped artefact has learned it

Region = Bool[ArrayLike, "*n h w"]
Images = Float[ArrayLike, "n h w c"]
_WAYS = ("aligned", "swapped", "removed")


class Audit(NamedTuple):
    """A classifier's accuracy with an artefact that tells the truth, lies, or is not there."""

    aligned: float
    swapped: float
    removed: float
    worst: float  # the lowest accuracy of a class in any of the three
    worst_group: tuple[str, str]  # which class, and which of the three


def audit(model: Model, dataset: Dataset, fault: Fault, *, seed: int = 0) -> Audit:
    """Return a classifier's accuracy with the artefact aligned, swapped and removed.

    Args:
        model: Images to logits.
        dataset: Without the artefact; all its images are used.
        fault: The artefact.
        seed: As for `plant`.

    Raises:
        ValueError: If the artefact breaks its rule, or a class has no image.
    """
    missing = np.setdiff1d(np.arange(len(dataset.class_names)), dataset.labels)
    if missing.size:
        raise ValueError(
            f"dataset must have images of every class, got none of "
            f"{', '.join(dataset.class_names[label] for label in missing[:5])}"
        )
    overall, groups = {}, {}
    for way in _WAYS:
        images = plant(dataset, fault, way, seed=seed).dataset.images
        right = predicted_classes(predict(model, images)) == dataset.labels
        overall[way] = float(right.mean())
        for label, name in enumerate(dataset.class_names):
            groups[name, way] = float(right[dataset.labels == label].mean())
    worst = min(groups, key=lambda group: groups[group])
    return Audit(**overall, worst=groups[worst], worst_group=worst)


class Relevance(NamedTuple):
    """How much relevance a region gets, for its size: 1 is what any other region gets."""

    density: Float[np.ndarray, " n"]  # share of the positive relevance over share of the area
    interval: Interval  # of the mean over images; NaN below 8 images


def relevance_density(heatmaps: Float[ArrayLike, "n h w"], region: Region) -> Relevance:
    """Return the share of the positive relevance in a region over the region's share of the image.

    Args:
        heatmaps: (N, H, W), any scale.
        region: (N, H, W), or (H, W) for all: True in the region; neither empty nor everything.

    Raises:
        ValueError: If an argument breaks its rule.
    """
    region = _region(region, np.shape(heatmaps))
    mass = relevance_mass(heatmaps, region)
    density = np.asarray(mass.value) / region.mean((1, 2))
    return Relevance(density, bootstrap_interval(density))


def relevance_grid(
    models: Mapping[str, Model],
    present: Biased,
    absent: Biased,
    method: Callable[..., Any],
) -> pd.DataFrame:
    """Return how much relevance each model gives the artefact's place, with it there and without.

    A faulty classifier looks at the place because the artefact is there. A method that points to
    it in a clean classifier, too, or in an image without the artefact, would accuse anybody.

    Args:
        models: By name.
        present: Images with the artefact. Those that do not carry it are left out.
        absent: The same images without it: `plant(..., "removed")`.
        method: From (model, images, targets) to heatmaps, with channels or without, such as those
            of `attribution`; asked for each image's own class.

    Returns:
        A row per model and state: `model`, `artefact` ("present" or "absent"), `density`, `low`,
        `high` (`relevance_density`'s mean, with a 95 % bootstrap interval).

    Raises:
        ValueError: If the two are not of the same images, fewer than two carry the artefact, or
            it has no place.
    """
    carriers = present.masks.any((1, 2))
    if len(present.dataset) != len(absent.dataset) or carriers.sum() < 2:
        raise ValueError(
            "present and absent must be of the same images, at least two with the artefact, got "
            f"{len(present.dataset)} and {len(absent.dataset)}, {carriers.sum()} with it"
        )
    masks = present.masks[carriers]
    if masks.all((1, 2)).any():
        raise ValueError(
            "present must have an artefact with a place, got one that covers whole images: no "
            "heatmap can point to it; look at explainfix.saliency_spectra"
        )
    rows = []
    for name, model in models.items():
        for state, biased in (("present", present), ("absent", absent)):
            some = biased.dataset.select(carriers)
            maps = heatmap(method(model, some.images, some.labels))
            interval = relevance_density(maps, masks).interval
            rows.append(
                {"model": name, "artefact": state, "density": float(interval.mean)}
                | {"low": float(interval.low), "high": float(interval.high)}
            )
    return pd.DataFrame(rows)


def paint_out(images: Images, region: Region, *, fill: Baseline = "mean") -> np.ndarray:
    """Return the images with a region painted over.

    Args:
        images: (N, H, W, C) in [0, 1].
        region: (N, H, W), or (H, W) for all: True where paint goes.
        fill: "mean", the mean colour of what each image shows outside of the region, which knows
            nothing of what was inside; or any other of `baselines`.

    Raises:
        ValueError: If an argument breaks its rule, or a region is a whole image and `fill` "mean".
    """
    images = np.asarray(check_images(images))
    region = _region(region, images.shape[:3])
    if not (isinstance(fill, str) and fill == "mean"):
        return np.where(region[..., None], baseline_images(fill, images), images)
    outside = ~region[..., None]
    count = outside.sum((1, 2), keepdims=True)
    if not count.all():
        raise ValueError(
            "region must leave some of each image for fill='mean', got a whole image; name a colour"
        )
    mean = (images * outside).sum((1, 2), keepdims=True) / count
    return np.where(outside, images, mean).astype(np.float32)


def paste(images: Images, source: Float[ArrayLike, "_ h w c"], region: Region) -> np.ndarray:
    """Return the images with a region of others in its place.

    Args:
        images: (N, H, W, C) in [0, 1].
        source: As many images, or one for all: where the region comes from.
        region: (N, H, W), or (H, W) for all.

    Raises:
        ValueError: If an argument breaks its rule.
    """
    images, source = check_images(images), check_images(source, name="source")
    if source.shape[1:] != images.shape[1:] or len(source) not in (1, len(images)):
        raise ValueError(
            f"source must be one image, or one for each, of shape {images.shape[1:]}, got "
            f"{source.shape}"
        )
    region = _region(region, images.shape[:3])
    return np.where(region[..., None], source, images)


def rectangle(
    dataset: Dataset, *, top: int, left: int, height: int, width: int
) -> Bool[np.ndarray, "h w"]:
    """Return a region of one's own choice in a data set's images, True inside of the rectangle.

    Raises:
        ValueError: If the rectangle is empty or leaves the images.
    """
    rows, columns = dataset.images.shape[1:3]
    inside = 0 <= top < top + height <= rows and 0 <= left < left + width <= columns
    if not inside:
        raise ValueError(
            f"top, left, height and width must stay inside of {rows}x{columns} pixels, got "
            f"{top}, {left}, {height}, {width}"
        )
    region = np.zeros((rows, columns), bool)
    region[top : top + height, left : left + width] = True
    return region


class Effect(NamedTuple):
    """What an intervention does to the probability of a class."""

    before: Float[np.ndarray, " n"]
    after: Float[np.ndarray, " n"]
    interval: Interval  # of the mean of after - before; NaN below 8 images


def effect(
    model: Model, images: Images, changed: Images, targets: Int[ArrayLike, " n"] | list[int]
) -> Effect:
    """Return how a class's probability changes from images to changed ones.

    Args:
        model: Images to logits.
        images: (N, H, W, C) in [0, 1].
        changed: The same images after `paste`, `paint_out`, or any change.
        targets: (N,) class indices.

    Raises:
        ValueError: If an argument breaks its rule.
    """
    if np.shape(images) != np.shape(changed):
        raise ValueError(
            f"changed must have the images' shape {np.shape(images)}, got {np.shape(changed)}"
        )
    targets = np.asarray(targets)
    if targets.shape != (len(images),) or not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(
            f"targets must be {len(images)} class indices, got {targets.dtype} of shape "
            f"{targets.shape}"
        )
    before, after = (probabilities(predict(model, some)) for some in (images, changed))
    if targets.min() < 0 or targets.max() >= before.shape[1]:
        raise ValueError(
            f"targets must be from 0 to {before.shape[1] - 1}, got {targets.min()} to "
            f"{targets.max()}"
        )
    before, after = (some[np.arange(len(targets)), targets] for some in (before, after))
    return Effect(before, after, bootstrap_interval(after - before))


def _region(region: Region, shape: tuple[int, ...]) -> Bool[np.ndarray, "n h w"]:
    region = np.asarray(region)
    if region.dtype != bool or region.shape not in (shape, shape[1:]):
        raise ValueError(
            f"region must be bool, of shape {shape} or {shape[1:]}, got {region.dtype} of shape "
            f"{region.shape}"
        )
    return np.broadcast_to(region, shape)
