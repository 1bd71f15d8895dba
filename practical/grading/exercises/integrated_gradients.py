"""1.4: integrated gradients."""

from dataclasses import replace

import numpy as np

from practical import attribution
from practical.grading.exercise import Call, Exercise, Mistake, Property
from practical.grading.exercises import _cases

_STEPS = 64


def _draw(rng: np.random.Generator) -> list[dict]:
    """Draw a case with a baseline for each image, and one with a baseline for all."""
    return [_fair(rng, 3, (2, 8, 10, 3)), _fair(rng, 4, (7, 7, 3))]


def _fair(rng: np.random.Generator, classes: int, baseline: tuple[int, ...]) -> dict:
    """Draw two images on which any rule with evenly spread steps comes near the integral.

    The gradient of a network of ReLUs jumps along the way, and 64 steps may miss where.
    """
    while True:
        case = _cases.explained(rng, 2, classes, *baseline[-3:-1])
        case["baseline"] = 0.3 * rng.random(baseline, np.float32)
        case["steps"] = _STEPS
        exact, way = _answer(**case), case["images"] - case["baseline"]
        off = np.stack([way * _slopes(**case, alphas=rule) - exact for rule in _rules(_STEPS)])
        change = np.abs(exact.sum((1, 2, 3)))
        gaps = np.abs(off.sum((2, 3, 4)))
        if (
            np.abs(off).max() < 0.04 * np.abs(exact).max()
            and gaps.max() < 0.03 * change.max()
            and change.min() > 0.3
        ):
            return case


def _rules(steps: int) -> list[np.ndarray]:
    """Return where rules take the gradient: at steps' beginnings, middles, ends, or end to end."""
    starts = np.arange(steps) / steps
    return [starts, starts + 0.5 / steps, starts + 1 / steps, np.linspace(0, 1, steps)]


def _answer(model, images, targets, baseline, steps) -> np.ndarray:
    return np.asarray(
        attribution.integrated_gradients(
            model, images, targets, baseline=np.asarray(baseline), steps=6 * steps
        )
    )


def _reference(model, images, targets, baseline, steps):
    """Take the gradient in the middles of the steps, one after the other.

    It is also what the notebook goes on with, which wants no more steps than it says, and holds
    evenly spread ones against the package's.
    """
    way = np.asarray(images) - np.asarray(baseline)
    alphas = _rules(steps)[1].astype(np.float32).tolist()
    slopes = (_cases.slope(model, baseline + alpha * way, targets) for alpha in alphas)
    return way * sum(slopes) / steps


def _slopes(model, images, targets, baseline, steps, alphas=None) -> np.ndarray:
    """Return the gradient averaged over the path, by default in the steps' middles."""
    places = np.asarray(_rules(steps)[1] if alphas is None else alphas, np.float32)
    points = baseline + places[:, None, None, None, None] * (images - baseline)  # in one batch
    flat = points.reshape(-1, *images.shape[1:])
    return _cases.slope(model, flat, np.tile(targets, steps)).reshape(points.shape).mean(0)


def _from_black(model, images, targets, baseline, steps):
    return (images - baseline) * _slopes(model, images, targets, 0 * baseline, steps)


def _ignored(model, images, targets, baseline, steps):
    return _answer(model, images, targets, 0 * baseline, steps)


def _complete(call: Call, rng: np.random.Generator) -> bool:
    (case, _) = _draw(rng)
    model, rows = case["model"], np.arange(2)
    found = np.asarray(call(case), np.float64)
    logits = [
        _cases.logits(model, x)[rows, case["targets"]]
        for x in (case["images"], np.broadcast_to(case["baseline"], case["images"].shape))
    ]
    change = logits[0] - logits[1]
    gap = np.abs(found.sum((1, 2, 3)) - change)
    return bool(gap.max() < 0.05 * np.abs(change).max())


def _as_many(call: Call, rng: np.random.Generator) -> bool:
    """Two steps are two gradients, by whatever rule, and not as many as somebody thinks right."""
    case = _draw(rng)[1] | {"steps": 2}
    found = np.asarray(call(case), np.float64)
    way = case["images"] - case["baseline"]
    beginnings, middles, ends, both = (way * _slopes(**case, alphas=rule) for rule in _rules(2))
    gauss = way * _slopes(**case, alphas=0.5 + np.array([-1, 1]) / np.sqrt(12))
    rules = (beginnings, middles, ends, both, (beginnings + ends) / 2, gauss)
    return any(np.abs(found - rule).max() <= 0.02 * np.abs(rule).max() for rule in rules)


EXERCISE = Exercise(
    id="1.4",
    name="integrated_gradients",
    title="Average the gradient along the way from a baseline",
    points=5,
    difficulty=2,
    minutes=12,
    cases=_draw,
    reference=_reference,
    hint="Average the gradient at baseline + alpha * (images - baseline) over `steps` values of "
    "alpha that are spread evenly over 0 to 1, then multiply by images - baseline.",
    mistakes=(
        *_cases.wrong_outputs(_answer),
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
            "the gradient at the image alone, times x - x'",
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
    properties=(
        Property(
            "complete",
            "an image's values have to add up to the logit's change from baseline to image.",
            _complete,
        ),
        Property(
            "a mean over `steps` gradients",
            "with steps=2 take the gradient twice; how often is not yours to choose.",
            _as_many,
        ),
    ),
    # Any rule that spreads the steps evenly will do; the ends of a plain sum are 1/64 off.
    tolerance=0.06,
)
### BEGIN HIDDEN TESTS
EXERCISE = replace(EXERCISE, hidden=(_cases.batch_order(_draw, "images", "targets", "baseline"),))
### END HIDDEN TESTS
