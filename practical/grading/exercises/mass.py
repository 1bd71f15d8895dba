"""1.7: the mass on the mask."""

from dataclasses import replace

import numpy as np

from practical import metrics
from practical.grading.exercise import Exercise, Mistake, Property
from practical.grading.exercises import _cases


def _mass(heatmaps, masks) -> np.ndarray:
    return np.asarray(metrics.relevance_mass(np.asarray(heatmaps), np.asarray(masks)).value)


EXERCISE = Exercise(
    id="1.7",
    name="mass_on_mask",
    title="Which share of the evidence lies on the object?",
    points=3,
    difficulty=1,
    minutes=6,
    cases=_cases.located,
    reference=_mass,
    hint="For each image: the sum of what is positive on the mask, over the sum of all that is "
    "positive.",
    mistakes=(
        Mistake(
            "magnitudes in the place of what is positive",
            "Evidence against the class is no evidence for it: set it to 0.",
            lambda heatmaps, masks: _mass(np.abs(heatmaps), masks),
        ),
        Mistake(
            "sums that count negative relevance, too",
            "Set what is negative to 0 before you add up.",
            lambda heatmaps, masks: (heatmaps * masks).sum((1, 2)) / heatmaps.sum((1, 2)),
        ),
        Mistake(
            "a density: the share over the mask's share of the image",
            "The mass is the share alone; the density comes in the second notebook.",
            lambda heatmaps, masks: _mass(heatmaps, masks) / masks.mean((1, 2)),
        ),
        Mistake(
            "the share of the mask that is positive",
            "Add up relevance, do not count pixels.",
            lambda heatmaps, masks: ((heatmaps > 0) & masks).sum((1, 2)) / masks.sum((1, 2)),
        ),
        Mistake(
            "one share of the whole batch",
            "Return a share for each image: sum over rows and columns alone.",
            lambda heatmaps, masks: (
                0 * heatmaps[:, 0, 0]
                + (np.maximum(heatmaps, 0) * masks).sum() / np.maximum(heatmaps, 0).sum()
            ),
        ),
    ),
    properties=(
        Property(
            "a share of the positive relevance",
            "where the mask has all that is positive, the mass has to be 1.",
            lambda call, rng: np.allclose(
                call({"heatmaps": (maps := _cases.heatmaps(rng, 2)), "masks": maps > 0}),
                1,
                atol=1e-3,
            ),
        ),
    ),
)
### BEGIN HIDDEN TESTS
EXERCISE = replace(
    EXERCISE, hidden=(_cases.MIRROR, _cases.batch_order(_cases.located, "heatmaps", "masks"))
)
### END HIDDEN TESTS
