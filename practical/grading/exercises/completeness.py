"""1.5: the completeness check."""

from dataclasses import replace

import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    cases = []
    # One baseline for all images, and one for each. There are not as many images as channels.
    for case, axes in ((_cases.explained(rng, 4), 3), (_cases.explained(rng, 2, classes=4), 4)):
        shape = case["images"].shape
        case["baseline"] = 0.3 * rng.random(shape[-axes:], np.float32)
        case["attributions"] = rng.normal(0, 0.05, shape).astype(np.float32)
        # The attributions sum to too much in one image, and to too little in the next.
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
    hint="For each image: the sum of its attributions minus what they have to explain, the "
    "target's logit at the image minus that at the baseline.",
    mistakes=(
        Mistake(
            "the sum of the attributions, from which nothing is subtracted",
            "Subtract the change of the target's logit from the baseline to the image.",
            lambda attributions, **given: attributions.sum((1, 2, 3)),
        ),
        Mistake(
            "the mean of the attributions minus the change of the logit",
            "Add the attributions up: completeness is about their sum.",
            lambda attributions, **given: (
                _gap(attributions=attributions, **given)
                - attributions.sum((1, 2, 3))
                + attributions.mean((1, 2, 3))
            ),
        ),
        Mistake(
            "the sum plus the change of the logit",
            "Subtract the change, which is the logit at the image minus that at the baseline.",
            lambda attributions, **given: (
                2 * attributions.sum((1, 2, 3)) - _gap(attributions=attributions, **given)
            ),
        ),
        Mistake(
            "the gap as a share of the change",
            "Return the gap in logits: do not divide by anything.",
            lambda attributions, **given: (
                _gap(attributions=attributions, **given)
                / -_gap(attributions=np.zeros_like(attributions), **given)
            ),
        ),
        Mistake(
            "the sum as a share of the change",
            "Subtract the change of the logit; do not divide by it.",
            lambda attributions, **given: (
                attributions.sum((1, 2, 3))
                / -_gap(attributions=np.zeros_like(attributions), **given)
            ),
        ),
        Mistake(
            "the change from black, whatever `baseline` is",
            "Compare with the logit at `baseline`.",
            lambda baseline, **given: _gap(baseline=0 * baseline, **given),
        ),
        Mistake(
            "the sum minus the image's logit, without the baseline's",
            "What has to be explained is the change from the baseline to the image.",
            lambda model, images, targets, baseline, attributions: (
                attributions.sum((1, 2, 3))
                - _cases.logits(model, images)[np.arange(len(images)), targets]
            ),
        ),
        Mistake(
            "the size of the gap, without its sign",
            "Keep the sign: it tells whether the attributions sum to too much or too little.",
            lambda *given, **named: np.abs(_gap(*given, **named)),
        ),
        Mistake(
            "the absolute value before the sum",
            "Add the attributions up with their signs: evidence against the class counts "
            "negatively.",
            lambda attributions, **given: (
                _gap(attributions=attributions, **given)
                - attributions.sum((1, 2, 3))
                + np.abs(attributions).sum((1, 2, 3))
            ),
        ),
        Mistake(
            "probabilities instead of logits",
            "The attributions explain the logit, so compare with its change, without a softmax.",
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
