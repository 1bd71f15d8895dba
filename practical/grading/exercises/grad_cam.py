"""1.6: Grad-CAM."""

from dataclasses import replace
from functools import partial

import numpy as np

from practical import attribution
from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases

_coarse = partial(attribution.grad_cam, upsample=False)


def _draw(rng: np.random.Generator) -> list[dict]:
    return [
        _cases.explained(rng, 3, height=12, width=16),
        _cases.explained(rng, 1, classes=4, height=16, width=12),
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
    title="Weigh the last layer's maps",
    points=4,
    difficulty=2,
    minutes=10,
    cases=_draw,
    reference=_coarse,
    hint="Differentiate the target's logit, as a function of the feature maps (model.head), "
    "average the derivative over rows and columns, weigh the maps with it, add them up, and keep "
    "what is positive.",
    mistakes=(
        Mistake(
            "a map without the ReLU at the end",
            "Keep only what is positive.",
            partial(_coarse, relu=False),
        ),
        Mistake(
            "magnitudes in the place of the ReLU",
            "Negative evidence is set to 0, not turned around.",
            lambda model, images, targets: np.abs(_coarse(model, images, targets, relu=False)),
        ),
        Mistake(
            "a ReLU on each map before they are added up",
            "Add the weighted maps up first: evidence for and against meets in the sum.",
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
        Mistake(
            "weights of a probability",
            "Differentiate the logit, what model.head returns, without a softmax.",
            lambda model, images, targets: _coarse(_cases.softmaxed(model), images, targets),
        ),
        Mistake(
            "weights of the predicted class",
            "Differentiate the logit of `targets`, which need not be the largest.",
            lambda model, images, targets: _coarse(model, images, _cases.predicted(model, images)),
        ),
    ),
)
### BEGIN HIDDEN TESTS
EXERCISE = replace(EXERCISE, hidden=(_cases.batch_order(_draw, "images", "targets"),))
### END HIDDEN TESTS
