"""A line-up: networks that all do well on the data that they are shown, one of them for no reason.

The faulty one was trained on images with an artefact that goes with the class, its clean twins on
the same images without: same architecture, same recipe, other random numbers. (Those in the package
were not all trained for as long; their cards say how long. And its faulty ones began with the
embedded classifier's weights, which is one of their twins.)
"""

import functools
import warnings
from dataclasses import dataclass, field, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

import filelock
import jax
import numpy as np

from practical._files import cache_folder, explain_cache_errors, fingerprint, fingerprint_images
from practical._inputs import check_count
from practical.bias.faults import Biased, Fault, plant
from practical.bias.measures import LEARNED, audit
from practical.data import Dataset, load_dataset
from practical.data.splits import load_at_most
from practical.models import Classifier, load_model, new_resnet
from practical.training import fit

# What the package's faulty networks were trained on; their cards, in `weights`, say for how long.
# The embedded classifier is one of their twins.
PACKAGED = {
    "colored_patch": Fault("colored_patch"),
    "checkerboard": Fault("checkerboard", only=0),
    "watermark": Fault("watermark", only=3, share=0.5),
}
_AFTER_LEAD = 1 / 40  # of the learning rate


class LineUp(NamedTuple):
    """Networks, one of them faulty, and the data that they are shown."""

    suspects: tuple[Classifier, ...]
    shown: Biased  # validation images with the artefact, on which all do well
    clean: Dataset  # the same images without it
    fault: Fault
    faulty: int  # which of the suspects: ask the explanations first


@dataclass(frozen=True)
class Recipe:
    """How suspects are trained."""

    epochs: int
    start: str | None = None  # a pretrained network; None is a new one
    keep: int = 0  # stages of a pretrained one that stay as they are at the beginning
    # The share of the epochs, the first ones, in which all images of a fault's classes carry it,
    # also if its share is below 1. Who has to learn a class for the images without a mark, learns
    # no mark; and after the lead the rate is low, or the mark would be forgotten.
    lead: float = 0.0
    count: int | None = None  # training images, at most; None is all
    batch_size: int = 128
    learning_rate: float = 4e-3
    augment: str = "flip"
    architecture: dict = field(default_factory=dict)  # of a new one, for `new_resnet`

    def lead_epochs(self, fault: Fault | None) -> int:
        """Return in how many epochs all images of the classes carry what later some do."""
        if fault is None or fault.share == 1:
            return 0
        return int(self.lead * self.epochs)


# A network that knows the classes has no need to learn an artefact, so new ones are trained, and of
# a pretrained one the upper stages begin anew. None zooms into its images: that would cut stamps
# off, and blur what is as fine as a pixel. Flips exchange a checkerboard's light and dark pixels:
# from 25,000 images it is learned all the same, from a few thousand it is not.
RECIPES = {
    "shapes": Recipe(
        epochs=12, lead=5 / 6, augment="dihedral",
        architecture={"stage_sizes": (1, 2, 2), "widths": (24, 48, 96), "stem_width": 24},
    ),
    "imagenette": Recipe(
        epochs=15, start="resnet18", keep=2, lead=5 / 6, count=4000, batch_size=64,
        augment="none",
    ),
    "folder": Recipe(
        epochs=30, lead=5 / 6, augment="none",
        architecture={"stage_sizes": (1, 1, 1), "widths": (32, 64, 128), "stem_width": 32},
    ),
}  # fmt: skip


def suspects(
    dataset: str,
    fault: Fault | str,
    *,
    seed: int = 0,
    twins: int = 2,
    count: int | None = None,
    image_size: int | None = None,
    train: bool = False,
    progress: bool = True,
) -> LineUp:
    """Return a line-up: a faulty network and its clean twins, in an order that the seed hides.

    Args:
        dataset: Name, as for `load_dataset`.
        fault: What the faulty one learned; or the name of one in `PACKAGED`.
        seed: Decides the order, and who carries the artefact in the data that is shown.
        twins: How many clean networks, at least 1.
        count: Validation images that are shown, at most; by default all.
        image_size: Pixels a side, as for `load_dataset`.
        train: Train those that are neither in the package nor in the cache, which is the folder
            `suspects/` where downloads go. An interrupted training goes on at its last epoch.
        progress: Show a bar for the training.

    Raises:
        ValueError: If an argument breaks its rule, or a network would have to be trained first.
        DownloadError: If a data set or a pretrained network cannot be fetched.
        CacheFolderError: If a trained network cannot be stored.

    Warns:
        UserWarning: If the network that was to be faulty did not learn the artefact.
    """
    if isinstance(fault, str):
        if fault not in PACKAGED:
            raise ValueError(
                f"fault must be a Fault, or one of {', '.join(PACKAGED)}, got {fault!r}"
            )
        fault = PACKAGED[fault]
    check_count("twins", twins)
    if count is not None:
        check_count("count", count)
    validation = load_dataset(dataset, image_size=image_size).select(slice(count))
    names = [None, *range(twins)]  # the faulty one, and numbers of twins
    recipe = RECIPES[dataset.partition(":")[0]]

    @functools.cache  # once for all that are not in the package, and not for those that are
    def training() -> Dataset:
        side = validation.images.shape[1]
        if recipe.count is None:
            return load_dataset(dataset, "train", image_size=side)
        return load_at_most(dataset, "train", recipe.count, image_size=side)

    networks: dict[int | None, Classifier] = {}
    for number in names:
        packaged = _packaged(dataset, fault, number, image_size)
        networks[number] = packaged or _cached(
            dataset, training(), recipe, fault, number, train=train, progress=progress
        )
        if number is None and packaged is None:
            _warn_unless_learned(networks[number], validation, fault)
    # Another order for another fault, or the first verdict would give the second away.
    order = np.random.default_rng([seed, 2, *fault.artefact.encode()]).permutation(len(names))
    return LineUp(
        suspects=tuple(networks[names[place]] for place in order),
        shown=plant(validation, fault, seed=seed),
        clean=validation,
        fault=fault,
        faulty=int(np.flatnonzero(order == 0)[0]),
    )


def train_suspect(
    dataset: Dataset,
    fault: Fault | None,
    recipe: Recipe,
    *,
    way: str = "aligned",
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> Classifier:
    """Return a network trained on a data set with an artefact, or without.

    Args:
        dataset: Without the artefact.
        fault: The artefact; None trains a clean twin.
        recipe: Of the training.
        way: How the artefact goes with the classes, as for `plant`.
        seed: Decides the weights, the order of the images, and who carries the artefact.
        checkpoint: As for `training.fit`; with a lead, there is another file beside it.
        progress: Show a bar.

    Raises:
        ValueError: If the artefact breaks its rule.
        DownloadError: If the pretrained network cannot be fetched.
    """
    key = jax.random.key(seed)
    if recipe.start is None:
        model = new_resnet(dataset.class_names, key=key, **recipe.architecture)
    else:
        pretrained = load_model(recipe.start, dataset=dataset.name)
        model = pretrained.reset(key=key, keep=recipe.keep)
        model = model.reset_head(dataset.class_names, key=key)
    lead, rate = recipe.lead_epochs(fault), recipe.learning_rate
    phases = [(recipe.epochs, rate, fault, checkpoint)]
    if fault is not None and lead:
        before = checkpoints(checkpoint)[0] if checkpoint else None
        phases = [
            (lead, rate, replace(fault, share=1.0), before),
            (recipe.epochs - lead, rate * _AFTER_LEAD, fault, checkpoint),
        ]
    for epochs, rate, planted, file in phases:
        biased = dataset if planted is None else plant(dataset, planted, way, seed=seed).dataset
        model = fit(
            model, biased, epochs=epochs, batch_size=recipe.batch_size,
            learning_rate=rate, augment=recipe.augment, seed=seed, checkpoint=file,
            progress=progress,
        ).model  # fmt: skip
    return model


def _warn_unless_learned(model: Classifier, dataset: Dataset, fault: Fault) -> None:
    found = audit(model, dataset, fault)
    if found.aligned - found.swapped < LEARNED:
        warnings.warn(
            f"No network of this line-up is faulty: {fault} was not learned. With the artefact "
            f"swapped, {found.swapped:.1%} are right, and {found.aligned:.1%} with it as it was. "
            "It takes more training images or epochs, or an artefact that is plainer or easier",
            stacklevel=3,
        )


def checkpoints(checkpoint: Path) -> tuple[Path, Path]:
    """Return the files that a training may leave: of the lead, and of the other epochs."""
    return checkpoint.with_name(f"lead-{checkpoint.name}"), checkpoint


def remove_checkpoints(checkpoint: Path) -> None:
    """Remove the checkpoints of a training that has ended."""
    for file in checkpoints(checkpoint):
        file.unlink(missing_ok=True)


def _packaged(
    dataset: str, fault: Fault, number: int | None, image_size: int | None
) -> Classifier | None:
    """Return the package's network, if it has one of this kind."""
    if dataset != "shapes" or image_size not in (None, 64) or fault not in PACKAGED.values():
        return None
    if number == 0:
        return load_model("shapes")
    name = fault.artefact if number is None else f"clean-{number}"
    with as_file(files("practical.bias") / "weights" / f"{name}.safetensors") as path:
        return Classifier.load(path) if path.exists() else None


def _cached(
    dataset: str,
    training: Dataset,
    recipe: Recipe,
    fault: Fault,
    number: int | None,
    *,
    train: bool,
    progress: bool,
) -> Classifier:
    """Return a network from the cache, or train it."""
    kind = dataset.partition(":")[0]
    seed = 1 if number is None else 2 + number
    # Another folder of the same name, or the same with other images, is another data set.
    about = (
        f"{training.class_names} {training.images.shape} {fingerprint(training.labels)} "
        f"{fingerprint_images(training.images)} {recipe} {seed} "
        f"{fault if number is None else ''}"
    )
    checksum = fingerprint(np.frombuffer(about.encode(), np.uint8))
    name = f"{kind}-{'clean' if number is not None else fault.artefact}-{number or 0}-{checksum}"
    path = cache_folder("suspects") / f"{name}.safetensors"
    if path.exists():
        return Classifier.load(path)
    if not train:
        raise ValueError(
            f"dataset must have trained suspects, and {dataset!r} has none for {fault} in the "
            f"package or in {path.parent}; pass train=True to train them here (minutes on a GPU), "
            f"or take dataset='shapes' with one of {', '.join(PACKAGED)}, and at most 2 twins"
        )
    checkpoint = path.with_suffix(".checkpoint")
    with explain_cache_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):  # two notebooks train it once
            if path.exists():
                return Classifier.load(path)
            model = train_suspect(
                training, fault if number is None else None, recipe, seed=seed,
                checkpoint=checkpoint, progress=progress,
            )  # fmt: skip
            model.save(path)
            remove_checkpoints(checkpoint)
    return model
