"""Mending a classifier that learned an artefact: training it further on data put right."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from practical._files import fingerprint
from practical._inputs import ArrayLike, check_count
from practical._study import fingerprints, run_parts
from practical.bias.faults import Biased, Fault, plant
from practical.bias.measures import audit, paint_out, paste
from practical.data import Dataset
from practical.models import Classifier
from practical.training import fit

REPAIRS = ("removed", "painted", "pasted", "avoided")
_MOST = 0.5  # of an image: what a region may cover that is to be painted over, pasted or avoided


def repair(
    model: Classifier,
    biased: Biased,
    how: str,
    *,
    epochs: int,
    clean: Dataset | None = None,
    donors: Float[ArrayLike, "_ h w 3"] | None = None,
    penalty: float = 1.0,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    augment: str = "dihedral",
    seed: int = 0,
    progress: bool = True,
) -> Classifier:
    """Return a classifier after more training, which takes the artefact's advantage away.

    What a faulty network has learned it need not forget, and where it is right without the artefact
    no image tells it to: "removed" and "painted" then change little. "pasted" shows it images whose
    artefact lies; `model.reset(key=...)` begins anew. Whether it worked, `audit` says, and first of
    all its worst class: an average hides the class that the artefact was painted on.

    Args:
        model: Is left as it is.
        biased: The training images with the artefact, and where it is.
        how: "removed", training on the images without the artefact, which somebody has to have;
            "painted", with the mean colour of the rest of the image over the masks, for which the
            artefact's place is enough, and should be masked in all images: paint that only its
            carriers have goes with the class as it did; "pasted", with the masks' pixels of others:
            in a random half of the images those of donors, in the rest of any image, so that the
            artefact goes with no class (its place, and some images that carry it, are enough; all
            images should have a mask here, too); "avoided", on the images as they are, with a
            penalty on what the answers owe to the masks' pixels (`training.fit(avoid=...)`).
        epochs: Passes over the data.
        clean: For "removed": the same images without the artefact.
        donors: For "pasted": (N, H, W, 3) images in [0, 1] that carry the artefact.
        penalty: For "avoided".
        batch_size: Images a step.
        learning_rate: The schedule's peak.
        augment: One of `augmentation.AUGMENTATIONS`.
        seed: Decides the order of the images, the augmentation, and who is pasted into whom.
        progress: Show a bar.

    Raises:
        ValueError: If an argument breaks its rule, or the artefact is everywhere and is to be
            painted over, pasted or avoided.

    References:
        Plumb et al., Finding and Fixing Spurious Patterns with Explanations, TMLR 2022, for
        counterfactual images such as "pasted".
    """
    if how not in REPAIRS:
        raise ValueError(f"how must be one of {', '.join(REPAIRS)}, got {how!r}")
    for name, value, where in (("clean", clean, "removed"), ("donors", donors, "pasted")):
        if (value is None) == (how == where):
            raise ValueError(
                f"{name} must be given for how={where!r} and only there, got "
                f"{'none' if value is None else 'some'} for {how!r}"
            )
    if how != "removed" and biased.masks.all((1, 2)).any():
        raise ValueError(
            f"how must be 'removed' for an artefact that covers whole images, got {how!r}: nothing "
            "would be left to learn from"
        )
    dataset, avoid = biased.dataset, None
    if clean is not None:
        dataset = clean
    elif how == "painted":
        painted = paint_out(np.asarray(dataset.images[:]), biased.masks)
        dataset = replace(dataset, images=np.asarray(painted))
    elif donors is not None:
        rng = np.random.default_rng([seed, 3])
        images, donors = np.asarray(dataset.images[:]), np.asarray(donors)
        if donors.shape[1:] != images.shape[1:] or not len(donors):
            raise ValueError(
                f"donors must be images of shape {images.shape[1:]}, at least one, got "
                f"{donors.shape}"
            )
        source = images[rng.permutation(len(images))]
        half = rng.random(len(images)) < 0.5
        source[half] = donors[rng.integers(0, len(donors), half.sum())]
        dataset = replace(dataset, images=paste(images, source, biased.masks))
    else:
        avoid = biased.masks
    return fit(
        model, dataset, epochs=epochs, avoid=avoid, penalty=penalty, batch_size=batch_size,
        learning_rate=learning_rate, augment=augment, seed=seed, progress=progress,
    ).model  # fmt: skip


def repair_study(
    model: Classifier,
    training: Dataset,
    validation: Dataset,
    fault: Fault,
    out: str | Path,
    *,
    repairs: Sequence[str] = REPAIRS,
    penalties: Sequence[float] = (1e-4, 1e-3, 1e-2),
    epochs: int = 3,
    batch_size: int = 32,
    seeds: int = 3,
    augment: str = "dihedral",
    progress: bool = True,
) -> pd.DataFrame:
    """Mend a faulty classifier in several ways, and audit what came of it.

    All get the same images and as many steps. The region is where any image has the artefact, in
    all images, so the artefact must have a place; what is pasted comes from those that carry it.

    Args:
        model: The faulty one.
        training: Images without the artefact, which is planted here.
        validation: Images without the artefact, for the audit.
        fault: What the model learned.
        out: The folder: `results.csv`, and parts to go on from.
        repairs: Some of `REPAIRS`.
        penalties: Of "avoided", one repair each.
        epochs: Passes over the data.
        batch_size: Images a step.
        seeds: How many times each, in another order of the images.
        augment: One of `augmentation.AUGMENTATIONS`.
        progress: Show a bar.

    Returns:
        A row per repair and seed, and first one for the model as it was: `repair`, `penalty`,
        `seed`, `aligned`, `swapped`, `removed`, `worst`, `class` (the worst) and `way` (the test).
        To read results.csv, ask pandas for `keep_default_na=False, na_values=[""],
        dtype={"class": str}`, or it changes classes called "None" or "007".

    Raises:
        ValueError: If an argument breaks its rule, or the folder holds results of other settings.
        RuntimeError: If another run is writing to the folder.
    """
    check_count("seeds", seeds)
    unknown = [name for name in repairs if name not in REPAIRS]
    if unknown or isinstance(repairs, str) or not len(repairs):
        raise ValueError(f"repairs must be some of {', '.join(REPAIRS)}, got {unknown or repairs}")
    collected = plant(training, fault)
    carriers = collected.masks.any((1, 2))
    region = collected.masks.any(0)
    if set(repairs) != {"removed"} and region.mean() > _MOST:
        raise ValueError(
            f"repairs must be 'removed' alone for {fault.artefact!r}, which is not in one place: "
            f"together its images have it on {region.mean():.0%} of their area; got {list(repairs)}"
        )
    if "avoided" in repairs and not all(penalty > 0 for penalty in penalties):
        raise ValueError(f"penalties must be above 0, got {penalties}")
    masks = np.broadcast_to(region, collected.masks.shape)
    everywhere = Biased(collected.dataset, masks)

    def row(network: Classifier, **about) -> pd.DataFrame:
        *shares, (name, way) = audit(network, validation, fault)
        named = dict(zip(("aligned", "swapped", "removed", "worst"), shares, strict=True))
        return pd.DataFrame([about | named | {"class": name, "way": way}])

    def run(how: str, penalty: float | None, seed: int) -> pd.DataFrame:
        options = {}
        if how == "removed":
            options["clean"] = training
        elif how == "pasted":
            options["donors"] = np.asarray(collected.dataset.images[:])[carriers]
        elif how == "avoided":
            options["penalty"] = penalty
        mended = repair(
            model, everywhere, how, epochs=epochs, batch_size=batch_size, augment=augment,
            seed=seed, progress=False, **options,
        )  # fmt: skip
        return row(mended, repair=how, penalty=penalty, seed=seed)

    parts = {"none": lambda: row(model, repair="none", penalty=None, seed=None)}
    for seed in range(seeds):
        for how in repairs:
            for penalty in penalties if how == "avoided" else (None,):
                name = f"{how}-{seed}" + (f"-{float(penalty)}" if penalty else "")
                parts[name] = partial(run, how, penalty, seed)
    settings = fingerprints(training=training, validation=validation)
    settings |= {"model": f"{model.architecture} {fingerprint(model)}", "fault": str(fault)}
    settings |= {"epochs": epochs, "batch_size": batch_size, "augment": augment}
    return run_parts(Path(out), settings, parts, progress=progress)
