"""1.3: gradient x input."""

from dataclasses import replace

import numpy as np

from practical import attribution
from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    return [_cases.explained(rng, 3), _cases.explained(rng, 1, classes=4, height=7, width=7)]


EXERCISE = Exercise(
    id="1.3",
    name="gradient_x_input",
    title="What a linear model would owe to each value",
    points=2,
    difficulty=1,
    minutes=4,
    cases=_draw,
    reference=attribution.gradient_x_input,
    hint="Multiply each value of the image by the derivative of the target's logit with respect to "
    "it. The result has one signed number for each value.",
    mistakes=(
        *_cases.wrong_outputs(attribution.gradient_x_input),
        Mistake(
            "the gradient, not multiplied by the input",
            "Multiply it by the images.",
            _cases.slope,
        ),
        Mistake(
            "the saliency times the input",
            "Multiply each value by its own derivative, before the channels are reduced.",
            lambda model, images, targets: (
                images * np.abs(_cases.slope(model, images, targets)).max(-1, keepdims=True)
            ),
        ),
        Mistake(
            "magnitudes",
            "Keep the sign: what speaks against the class is negative.",
            lambda model, images, targets: np.abs(
                attribution.gradient_x_input(model, images, targets)
            ),
        ),
    ),
)
### BEGIN HIDDEN TESTS
EXERCISE = replace(EXERCISE, hidden=(_cases.batch_order(_draw, "images", "targets"),))
### END HIDDEN TESTS
