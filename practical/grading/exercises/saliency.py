"""1.2: saliency."""

from dataclasses import replace

import jax
import numpy as np

from practical import attribution
from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    return [_cases.explained(rng, 3), _cases.explained(rng, 1, classes=4, height=7, width=7)]


def _of_batch(model, images, targets):
    """The batch's gradients are added up."""
    gradients = _cases.slope(model, images, targets)
    return np.abs(gradients.sum(0, keepdims=True)).max(-1) + 0 * gradients[..., 0]


EXERCISE = Exercise(
    id="1.2",
    name="saliency",
    title="One backward pass to the input",
    points=3,
    difficulty=1,
    minutes=8,
    cases=_draw,
    reference=attribution.saliency,
    hint="Differentiate the sum of the targets' logits with respect to the images (jax.grad), "
    "then take the largest magnitude over the color channels, the last axis.",
    mistakes=(
        *_cases.wrong_outputs(attribution.saliency),
        Mistake(
            "the largest value over the channels, with its sign",
            "Take the magnitude first (abs), then the largest: a strong negative slope also "
            "matters.",
            lambda model, images, targets: _cases.slope(model, images, targets).max(-1),
        ),
        Mistake(
            "positive slopes only",
            "Take the magnitude: a strong negative slope also matters.",
            lambda model, images, targets: _cases.slope(model, images, targets).max(-1).clip(0),
        ),
        Mistake(
            "`[targets]`, which picks images by the numbers of their classes",
            "The first index is the image, the second its class: "
            "`[np.arange(len(targets)), targets]`.",
            lambda model, images, targets: np.abs(
                jax.grad(lambda x: model(x)[targets].sum())(images)
            ).max(-1),
        ),
        Mistake(
            "the magnitude of the sum over the channels",
            "Take the magnitude of each channel before you reduce them: they may cancel.",
            lambda model, images, targets: np.abs(_cases.slope(model, images, targets).sum(-1)),
        ),
        Mistake(
            "the sum of the channels' magnitudes",
            "The paper takes the largest of the three, not their sum.",
            lambda model, images, targets: np.abs(_cases.slope(model, images, targets)).sum(-1),
        ),
        Mistake(
            "the mean of the channels' magnitudes",
            "The paper takes the largest of the three, not their mean.",
            lambda model, images, targets: np.abs(_cases.slope(model, images, targets)).mean(-1),
        ),
        Mistake(
            "the gradient norm",
            "The paper takes the largest of the three magnitudes, not the length of the gradient.",
            lambda model, images, targets: attribution.saliency(
                model, images, targets, reduce="l2"
            ),
        ),
        Mistake(
            "gradient times input",
            "Saliency is the magnitude of the gradient. Do not multiply it by the images.",
            lambda model, images, targets: np.abs(
                images * _cases.slope(model, images, targets)
            ).max(-1),
        ),
        Mistake(
            "the gradients of the whole batch added up",
            "Each image has its own map, from its own gradient.",
            _of_batch,
        ),
    ),
)
### BEGIN HIDDEN TESTS
EXERCISE = replace(EXERCISE, hidden=(_cases.batch_order(_draw, "images", "targets"),))
### END HIDDEN TESTS
