"""1.5: the completeness check."""

from dataclasses import replace

import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    cases = []
    # One baseline for all images, and one for each.
    for case, axes in ((_cases.explained(rng, 3), 3), (_cases.explained(rng, 2, classes=4), 4)):
        shape = case["images"].shape
        case["baseline"] = 0.3 * rng.random(shape[-axes:], np.float32)
        case["attributions"] = rng.normal(0, 0.05, shape).astype(np.float32)
        # Too much is given away in one image, and too little in the next.
        wanted = rng.uniform(0.5, 2, len(case["images"])) * (-1) ** np.arange(len(case["images"]))
        off = (wanted - _gap(**case)) / np.prod(shape[1:])
        case["attributions"] += off[:, None, None, None].astype(np.float32)
        cases.append(case)
    return cases


def _gap(model, images, targets, baseline, attributions):
    each = np.arange(len(images))
    starts = np.broadcast_to(baseline, images.shape)
    logits = [_cases.logits(model, x)[each, targets] for x in (images, starts)]
    return np.asarray(attributions).sum((1, 2, 3)) - (logits[0] - logits[1])


EXERCISE = Exercise(
    id="1.5",
    name="completeness_gap",
    title="Do the contributions add up?",
    points=2,
    difficulty=1,
    minutes=4,
    cases=_draw,
    reference=_gap,
    hint="For each image: the sum of its attributions, less what they have to explain, the "
    "target's logit at the image minus that at the baseline.",
    mistakes=(
        Mistake(
            "the sum less the image's logit, without the baseline's",
            "What has to be explained is the change from the baseline to the image.",
            lambda model, images, targets, baseline, attributions: (
                attributions.sum((1, 2, 3))
                - _cases.logits(model, images)[np.arange(len(images)), targets]
            ),
        ),
        Mistake(
            "the size of the gap, without its sign",
            "Keep the sign: it says whether too much was given away or too little.",
            lambda *given, **named: np.abs(_gap(*given, **named)),
        ),
        Mistake(
            "the absolute value before the sum",
            "Add the attributions up with their signs: what speaks against the class is taken "
            "away.",
            lambda attributions, **given: (
                _gap(attributions=attributions, **given)
                - attributions.sum((1, 2, 3))
                + np.abs(attributions).sum((1, 2, 3))
            ),
        ),
        Mistake(
            "probabilities in the place of logits",
            "The attributions are of the logit, so compare with its change, without a softmax.",
            lambda model, images, targets, baseline, attributions: _gap(
                _cases.softmaxed(model), images, targets, baseline, attributions
            ),
        ),
        Mistake(
            "one sum over the whole batch",
            "Each image's contributions have to add up by themselves: sum over rows, columns and "
            "channels only.",
            lambda model, images, targets, baseline, attributions: (
                _gap(model, images, targets, baseline, attributions)
                - attributions.sum((1, 2, 3))
                + attributions.sum()
            ),
        ),
        Mistake(
            "the predicted class's logit",
            "Compare with the logit of `targets`.",
            lambda model, images, targets, baseline, attributions: _gap(
                model, images, _cases.predicted(model, images), baseline, attributions
            ),
        ),
    ),
)
### BEGIN HIDDEN TESTS
EXERCISE = replace(
    EXERCISE, hidden=(_cases.batch_order(_draw, "images", "targets", "attributions"),)
)
### END HIDDEN TESTS
