"""1.6: Grad-CAM."""

from dataclasses import replace
from functools import partial

import numpy as np

from practical import attribution
from practical.grading.asking import Weighted
from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases

_coarse = partial(attribution.grad_cam, upsample=False)


def _draw(rng: np.random.Generator) -> list[dict]:
    weighted = _cases.explained(rng, 2, classes=4, height=16, width=12)
    height, width = weighted["model"].features(weighted["images"]).shape[1:3]
    weights = rng.uniform(0.2, 2, (height, width, 1)).astype(np.float32)
    return [
        _cases.explained(rng, 2, height=12, width=16),
        weighted | {"model": Weighted(weighted["model"], weights)},
    ]


def _by_hand(model, images, targets, weigh, keep) -> np.ndarray:
    features = np.asarray(model.features(images))
    slopes = _cases.slope(_cases.head(model), features, targets)
    return keep((weigh(slopes) * features).sum(-1))


def _mean(slopes: np.ndarray) -> np.ndarray:
    return slopes.mean((1, 2), keepdims=True)


EXERCISE = Exercise(
    id="1.6",
    name="grad_cam",
    title="Weight the last layer's maps",
    points=4,
    difficulty=2,
    minutes=10,
    cases=_draw,
    reference=_coarse,
    hint="Differentiate the target's logit, as a function of the feature maps (model.head), "
    "average the derivative over rows and columns, multiply each map by its average, add the maps "
    "up, and apply the ReLU.",
    mistakes=(
        *_cases.wrong_outputs(_coarse),
        Mistake(
            "a derivative that is not averaged over the positions",
            "Each map has one weight: average the derivative over rows and columns. Only in a "
            "network like ours is it the same at all positions.",
            partial(_by_hand, weigh=lambda slopes: slopes, keep=partial(np.maximum, 0)),
        ),
        Mistake(
            "a map without the ReLU at the end",
            "Set negative values to 0.",
            partial(_coarse, relu=False),
        ),
        Mistake(
            "magnitudes instead of the ReLU",
            "Negative evidence is set to 0, not turned around.",
            lambda model, images, targets: np.abs(_coarse(model, images, targets, relu=False)),
        ),
        Mistake(
            "a ReLU on the weights, or on each map, before the maps are added up",
            "Add the weighted maps up first, with their signs, and apply the ReLU to the sum.",
            lambda model, images, targets: np.maximum(
                np.asarray(model.features(images))
                * _mean(_cases.slope(_cases.head(model), model.features(images), targets)),
                0,
            ).sum(-1),
        ),
        Mistake(
            "weights that are added up over the positions, not averaged",
            "Take the mean of the derivative over rows and columns.",
            partial(
                _by_hand,
                weigh=lambda slopes: slopes.sum((1, 2), keepdims=True),
                keep=partial(np.maximum, 0),
            ),
        ),
        Mistake(
            "a mean over the channels",
            "The weighted maps are added up, not averaged.",
            lambda model, images, targets: (
                _coarse(model, images, targets) / model.features(images).shape[-1]
            ),
        ),
        Mistake(
            "the maps added up without their weights",
            "Multiply each map with its weight before you add them up.",
            partial(_by_hand, weigh=lambda slopes: 1 + 0 * slopes, keep=partial(np.maximum, 0)),
        ),
    ),
)
### BEGIN HIDDEN TESTS
EXERCISE = replace(EXERCISE, hidden=(_cases.batch_order(_draw, "images", "targets"),))
### END HIDDEN TESTS
