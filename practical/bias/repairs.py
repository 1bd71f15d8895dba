"""Mending a classifier that learned an artefact: training it further on data put right."""

from dataclasses import replace

import numpy as np

from practical.bias.faults import Biased
from practical.bias.measures import paint_out
from practical.data import Dataset
from practical.models import Classifier
from practical.training import fit

REPAIRS = ("removed", "painted", "avoided")


def repair(
    model: Classifier,
    biased: Biased,
    how: str,
    *,
    epochs: int,
    clean: Dataset | None = None,
    penalty: float = 1.0,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    augment: str = "dihedral",
    seed: int = 0,
    progress: bool = True,
) -> Classifier:
    """Return a classifier after more training, which takes the artefact's advantage away.

    What a faulty network has learned it need not forget: `model.reset(key=...)` begins anew.
    Whether it worked, `audit` says, and first of all its worst class: an average hides the class
    that the artefact was painted on.

    Args:
        model: Is left as it is.
        biased: The training images with the artefact, and where it is.
        how: "removed", training on the images without the artefact, which somebody has to have;
            "painted", with the mean colour of the rest of the image over the masks, for which the
            artefact's place is enough, and should be masked in all images: paint that only its
            carriers have goes with the class as it did; "avoided", on the images as they are, with
            a penalty on what the answers owe to the masks' pixels (`training.fit(avoid=...)`).
        epochs: Passes over the data.
        clean: For "removed": the same images without the artefact.
        penalty: For "avoided".
        batch_size: Images a step.
        learning_rate: The schedule's peak.
        augment: One of `augmentation.AUGMENTATIONS`.
        seed: Decides the order of the images and the augmentation.
        progress: Show a bar.

    Raises:
        ValueError: If an argument breaks its rule, or the artefact is everywhere and is to be
            painted over or avoided.
    """
    if how not in REPAIRS:
        raise ValueError(f"how must be one of {', '.join(REPAIRS)}, got {how!r}")
    if (clean is None) == (how == "removed"):
        raise ValueError(
            f"clean must be given for how='removed' and only there, got "
            f"{'none' if clean is None else 'one'} for {how!r}"
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
    else:
        avoid = biased.masks
    return fit(
        model, dataset, epochs=epochs, avoid=avoid, penalty=penalty, batch_size=batch_size,
        learning_rate=learning_rate, augment=augment, seed=seed, progress=progress,
    ).model  # fmt: skip
