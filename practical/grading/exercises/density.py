"""2.1: how dense an artefact's relevance is."""

from dataclasses import replace

import numpy as np

from practical import bias
from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _density(heatmaps, masks) -> np.ndarray:
    return np.asarray(bias.relevance_density(np.asarray(heatmaps), np.asarray(masks)).density)


EXERCISE = Exercise(
    id="2.1",
    name="relevance_density",
    title="A suspicion as a number",
    points=3,
    difficulty=1,
    minutes=6,
    cases=_cases.located,
    reference=_density,
    hint="For each image: the share of the positive relevance that lies on the mask, divided by "
    "the share of the pixels that lie on it. 1 is the image's average.",
    mistakes=(
        Mistake(
            "sums that also count negative relevance",
            "Set negative values to 0 before you add up.",
            lambda heatmaps, masks: (
                (heatmaps * masks).sum((1, 2)) / heatmaps.sum((1, 2)) / masks.mean((1, 2))
            ),
        ),
        Mistake(
            "the share of the pixels divided by the share of the relevance",
            "Divide the other way round: a dense artefact has a density above 1.",
            lambda heatmaps, masks: 1 / _density(heatmaps, masks),
        ),
        Mistake(
            "the mean relevance on the mask",
            "Divide it by the mean of the positive relevance over the whole image.",
            lambda heatmaps, masks: (heatmaps.clip(0) * masks).sum((1, 2)) / masks.sum((1, 2)),
        ),
        Mistake(
            "the mean size of all masks",
            "Divide each image's share by its own mask's share: axis=(1, 2).",
            lambda heatmaps, masks: _density(heatmaps, masks) * masks.mean((1, 2)) / masks.mean(),
        ),
        Mistake(
            "the share of the relevance, not divided by the share of the pixels",
            "A large artefact gets much relevance by chance: divide by its share of the image.",
            lambda heatmaps, masks: _density(heatmaps, masks) * masks.mean((1, 2)),
        ),
        Mistake(
            "magnitudes instead of the positive part",
            "Set negative relevance to 0; do not change its sign.",
            lambda heatmaps, masks: _density(np.abs(heatmaps), masks),
        ),
        Mistake(
            "the share of the relevance divided by the number of pixels on the mask",
            "Divide by the mask's share of the image: its mean.",
            lambda heatmaps, masks: (
                _density(heatmaps, masks) * masks.mean((1, 2)) / masks.sum((1, 2))
            ),
        ),
        Mistake(
            "relevance on the mask divided by relevance beside it",
            "Both shares are of the whole image.",
            lambda heatmaps, masks: (
                (np.maximum(heatmaps, 0) * masks).sum((1, 2))
                / (np.maximum(heatmaps, 0) * ~masks).sum((1, 2))
            ),
        ),
        Mistake(
            "the same density for all images",
            "Return one for each image: sum over rows and columns only.",
            lambda heatmaps, masks: (
                0 * heatmaps[:, 0, 0]
                + (np.maximum(heatmaps, 0) * masks).sum()
                / np.maximum(heatmaps, 0).sum()
                / masks.mean()
            ),
        ),
    ),
)
### BEGIN HIDDEN TESTS
_SCALE = _cases.relation(
    "the same for a map in other units",
    "Both shares stay the same if all relevance is doubled.",
    _cases.located,
    lambda case: {"heatmaps": 3 * case["heatmaps"]},
    lambda answer: answer,
)
EXERCISE = replace(
    EXERCISE,
    hidden=(_SCALE, _cases.MIRROR, _cases.batch_order(_cases.located, "heatmaps", "masks")),
)
### END HIDDEN TESTS
