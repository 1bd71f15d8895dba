"""2.2: the causal test."""

from dataclasses import replace

import jax
import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    cases = []
    for case in (_cases.explained(rng, 4), _cases.explained(rng, 2, classes=4)):
        changed = case["images"].copy()
        changed[:, 2:6, 3:9] = rng.random((1, 1, 1, 3))
        cases.append(case | {"changed": changed})
    return cases


def _effect(model, images, changed, targets, output=jax.nn.softmax, start=1) -> np.ndarray:
    each = np.arange(len(targets))
    before, after = (
        np.asarray(output(_cases.logits(model, x)), float)[each, targets] for x in (images, changed)
    )
    return after - start * before


EXERCISE = Exercise(
    id="2.2",
    name="change_of_probability",
    title="Change one thing, and count what happens",
    points=3,
    difficulty=1,
    minutes=6,
    cases=_draw,
    reference=_effect,
    hint="For each image: the probability of its target on the changed image minus that on the "
    "original image.",
    mistakes=(
        Mistake(
            "the probability on the changed image, from which nothing is subtracted",
            "Subtract the probability on the original image.",
            lambda model, images, changed, targets: _effect(
                model, images, changed, targets, start=0
            ),
        ),
        Mistake(
            "a relative change",
            "Subtract the probabilities; do not divide by the one before.",
            lambda model, images, changed, targets: (
                _effect(model, images, changed, targets)
                / _effect(model, images, images, targets, start=0)
            ),
        ),
        Mistake(
            "a change of the logarithm of the probability",
            "Take the softmax, not its logarithm.",
            lambda model, images, changed, targets: _effect(
                model, images, changed, targets, jax.nn.log_softmax
            ),
        ),
        Mistake(
            "a sigmoid instead of the softmax",
            "The classes' probabilities add up to 1: take the softmax over the classes.",
            lambda model, images, changed, targets: _effect(
                model, images, changed, targets, jax.nn.sigmoid
            ),
        ),
        Mistake(
            "whether the answer is right, not its probability",
            "Follow the probability of the target, which changes before the answer does.",
            lambda model, images, changed, targets: _effect(
                model,
                images,
                changed,
                targets,
                lambda logits: logits == logits.max(1, keepdims=True),
            ),
        ),
        Mistake(
            "a change of the logit",
            "Take the softmax of the model's output, over the classes.",
            lambda model, images, changed, targets: _effect(
                model, images, changed, targets, lambda logits: logits
            ),
        ),
        Mistake(
            "the probability before minus that after",
            "A fall is negative: after minus before.",
            lambda **given: -_effect(**given),
        ),
        Mistake(
            "the most probable class instead of the target",
            "Follow the probability of `targets`, also where another class wins.",
            lambda model, images, changed, targets: _effect(
                model, images, changed, _cases.predicted(model, images)
            ),
        ),
        Mistake(
            "the size of the change, without its sign",
            "Keep the sign: a rise and a fall are different effects.",
            lambda **given: np.abs(_effect(**given)),
        ),
        Mistake(
            "a softmax over the batch",
            "The probabilities of an image's classes add up to 1: softmax over the last axis.",
            lambda model, images, changed, targets: _effect(
                model, images, changed, targets, lambda logits: jax.nn.softmax(logits, axis=0)
            ),
        ),
    ),
)
### BEGIN HIDDEN TESTS
_NOTHING = _cases.relation(
    "0 where nothing was changed",
    "The same images have the same probabilities.",
    _draw,
    lambda case: {"changed": case["images"]},
    lambda answer: 0 * answer,
)
EXERCISE = replace(
    EXERCISE, hidden=(_NOTHING, _cases.batch_order(_draw, "images", "changed", "targets"))
)
### END HIDDEN TESTS
