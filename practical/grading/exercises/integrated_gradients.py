"""1.4: integrated gradients."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    """Draw a case with a baseline for each image, and one with a baseline for all.

    There are few steps, so that where the gradient is taken makes a visible difference.
    """
    cases = []
    for steps, classes, baseline in ((3, 3, (2, 8, 10, 3)), (4, 4, (7, 7, 3))):
        case = _cases.explained(rng, 2, classes, *baseline[-3:-1])
        case["baseline"] = 0.3 * rng.random(baseline, np.float32)
        cases.append(case | {"steps": steps})
    return cases


def _slopes(model, images, targets, baseline, steps, alphas=None) -> np.ndarray:
    """Return the sum of the gradients at `alphas`, by default the steps' middles, over `steps`."""
    alphas = (np.arange(steps) + 0.5) / steps if alphas is None else alphas
    way = np.asarray(images) - np.asarray(baseline)
    # One after the other: the notebook also uses this, with large images and many steps.
    points = (baseline + np.float32(alpha) * way for alpha in alphas)
    return sum(_cases.slope(model, point, targets) for point in points) / steps


def _answer(model, images, targets, baseline, steps, alphas=None) -> np.ndarray:
    way = np.asarray(images) - np.asarray(baseline)
    return way * _slopes(model, images, targets, baseline, steps, alphas)


def _reference(model, images, targets, baseline, steps) -> np.ndarray:
    return _answer(model, images, targets, baseline, steps)


def _at(alphas: Callable[[int], np.ndarray]) -> Callable:
    """Return the answer that takes the gradient where `alphas` of the number of steps says."""
    return lambda steps, **given: _answer(steps=steps, alphas=alphas(steps), **given)


def _trapezoid(model, images, targets, baseline, steps) -> np.ndarray:
    given = model, images, targets, baseline, steps
    starts, ends = (_answer(*given, (np.arange(steps) + shift) / steps) for shift in (0, 1))
    return (starts + ends) / 2


def _from_black(model, images, targets, baseline, steps):
    return (images - baseline) * _slopes(model, images, targets, 0 * baseline, steps)


def _without_start(model, images, targets, baseline, steps):
    way = images - baseline
    return way * _slopes(model, way, targets, 0 * baseline, steps)


def _ignored(model, images, targets, baseline, steps):
    return _answer(model, images, targets, 0 * baseline, steps)


_MIDDLES = "Take the gradient in the middle of each step: alpha = (k + 1/2) / steps."

EXERCISE = Exercise(
    id="1.4",
    name="integrated_gradients",
    title="Average the gradient along the way from a baseline",
    points=5,
    difficulty=2,
    minutes=12,
    cases=_draw,
    reference=_reference,
    hint="Average the gradient at baseline + alpha * (images - baseline) over exactly `steps` "
    "values, alpha = (k + 1/2) / steps, then multiply by images - baseline.",
    mistakes=(
        *_cases.wrong_outputs(_reference),
        Mistake(
            "gradients at the beginnings of the steps, k / steps",
            _MIDDLES,
            _at(lambda steps: np.arange(steps) / steps),
        ),
        Mistake(
            "gradients at the ends of the steps, (k + 1) / steps",
            _MIDDLES,
            _at(lambda steps: (np.arange(steps) + 1) / steps),
        ),
        Mistake(
            "gradients at `steps` points from 0 to 1, with both ends",
            f"{_MIDDLES} `linspace` includes both ends.",
            _at(lambda steps: np.linspace(0, 1, steps)),
        ),
        Mistake(
            "the trapezoidal rule, with `steps` + 1 gradients",
            _MIDDLES,
            _trapezoid,
        ),
        Mistake(
            "alpha = k + 1/2 / steps",
            "Parentheses are missing: (k + 1/2) / steps.",
            _at(lambda steps: np.arange(steps) + 0.5 / steps),
        ),
        Mistake(
            "only the last gradient, divided by `steps`",
            "Add the gradients up: `+=`, not `=`.",
            _at(lambda steps: np.array([1 - 0.5 / steps])),
        ),
        Mistake(
            "one gradient too few",
            "`range(steps)` starts at 0 and has `steps` values.",
            _at(lambda steps: (np.arange(1, steps) + 0.5) / steps),
        ),
        Mistake(
            "one gradient too many",
            "`range(steps)` starts at 0 and has `steps` values.",
            _at(lambda steps: (np.arange(steps + 1) + 0.5) / steps),
        ),
        Mistake(
            "a way that starts at black, with the length of images - baseline",
            "The points of the way are baseline + alpha * (images - baseline).",
            _without_start,
        ),
        Mistake(
            "the averaged gradient, not multiplied by x - x'",
            "Multiply the average by the way, images - baseline: it is an integral along it.",
            _slopes,
        ),
        Mistake(
            "the averaged gradient times x, not times x - x'",
            "Multiply by images - baseline. The two are the same only for a black baseline.",
            lambda model, images, targets, baseline, steps: (
                images * _slopes(model, images, targets, baseline, steps)
            ),
        ),
        Mistake(
            "a way that begins at black, not at the baseline",
            "The points of the way are baseline + alpha * (images - baseline).",
            _from_black,
        ),
        Mistake(
            "black as the baseline, whatever `baseline` is",
            "Begin at `baseline`, and multiply by images - baseline.",
            _ignored,
        ),
        Mistake(
            "the gradient at the image only, times x - x'",
            "Take the gradient at `steps` points between the baseline and the image, and average.",
            lambda model, images, targets, baseline, steps: (
                (images - baseline) * _cases.slope(model, images, targets)
            ),
        ),
        Mistake(
            "magnitudes",
            "Keep the sign: contributions against the class are negative, and all have to add up.",
            lambda model, images, targets, baseline, steps: np.abs(
                _answer(model, images, targets, baseline, steps)
            ),
        ),
        Mistake(
            "the sum over the steps, not their mean",
            "Divide by the number of steps: an average does not grow with them.",
            lambda model, images, targets, baseline, steps: (
                steps * np.asarray(_answer(model, images, targets, baseline, steps))
            ),
        ),
    ),
)
### BEGIN HIDDEN TESTS
EXERCISE = replace(EXERCISE, hidden=(_cases.batch_order(_draw, "images", "targets", "baseline"),))
### END HIDDEN TESTS
