"""1.7: the mass on the mask."""

from dataclasses import replace

import numpy as np

from practical import metrics
from practical.grading.exercise import Exercise, Mistake, Property
from practical.grading.exercises import _cases


def _mass(heatmaps, masks) -> np.ndarray:
    return np.asarray(metrics.relevance_mass(np.asarray(heatmaps), np.asarray(masks)).value)


def _sums(values: np.ndarray) -> np.ndarray:
    return values.sum((1, 2))


EXERCISE = Exercise(
    id="1.7",
    name="mass_on_mask",
    title="Which share of the evidence lies on the object?",
    points=3,
    difficulty=1,
    minutes=6,
    cases=_cases.located,
    reference=_mass,
    hint="For each image: the sum of the positive values on the mask, divided by the sum of all "
    "positive values.",
    mistakes=(
        Mistake(
            "positive relevance divided by the sum of all magnitudes",
            "Divide by the sum of the positive values only.",
            lambda heatmaps, masks: _sums(heatmaps.clip(0) * masks) / _sums(np.abs(heatmaps)),
        ),
        Mistake(
            "positive relevance divided by a sum that counts negative relevance",
            "Divide by the sum of the positive values only.",
            lambda heatmaps, masks: _sums(heatmaps.clip(0) * masks) / _sums(heatmaps),
        ),
        Mistake(
            "the sum of the relevance on the mask, not its share",
            "Divide by the sum of all positive values.",
            lambda heatmaps, masks: _sums(heatmaps.clip(0) * masks),
        ),
        Mistake(
            "the mean relevance on the mask",
            "Divide by the sum of all positive values, not by the number of pixels on the mask.",
            lambda heatmaps, masks: _sums(heatmaps.clip(0) * masks) / _sums(masks),
        ),
        Mistake(
            "each image's relevance divided by that of the whole batch",
            "Divide by the sum over the image's own rows and columns: axis=(1, 2).",
            lambda heatmaps, masks: _sums(heatmaps.clip(0) * masks) / heatmaps.clip(0).sum(),
        ),
        Mistake(
            "relevance on the mask divided by relevance beside it",
            "Divide by the positive relevance of the whole image.",
            lambda heatmaps, masks: (
                _sums(heatmaps.clip(0) * masks) / _sums(heatmaps.clip(0) * ~masks)
            ),
        ),
        Mistake(
            "magnitudes instead of the positive part",
            "Evidence against the class is not evidence for it: set it to 0.",
            lambda heatmaps, masks: _mass(np.abs(heatmaps), masks),
        ),
        Mistake(
            "sums that also count negative relevance",
            "Set negative values to 0 before you add up.",
            lambda heatmaps, masks: (heatmaps * masks).sum((1, 2)) / heatmaps.sum((1, 2)),
        ),
        Mistake(
            "a density: the share over the mask's share of the image",
            "The mass is only the share; the density comes in the second notebook.",
            lambda heatmaps, masks: _mass(heatmaps, masks) / masks.mean((1, 2)),
        ),
        Mistake(
            "the share of the mask that is positive",
            "Add up relevance; do not count pixels.",
            lambda heatmaps, masks: ((heatmaps > 0) & masks).sum((1, 2)) / masks.sum((1, 2)),
        ),
        Mistake(
            "one share of the whole batch",
            "Return a share for each image: sum over rows and columns only.",
            lambda heatmaps, masks: (
                0 * heatmaps[:, 0, 0]
                + (np.maximum(heatmaps, 0) * masks).sum() / np.maximum(heatmaps, 0).sum()
            ),
        ),
    ),
    properties=(
        Property(
            "a share of the positive relevance",
            "if the mask covers all positive values, the mass has to be 1.",
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
