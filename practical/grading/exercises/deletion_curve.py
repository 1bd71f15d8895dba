"""1.8: a deletion curve."""

from dataclasses import replace

import jax
import numpy as np

from practical.grading.exercise import Call, Exercise, Mistake, Property
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    cases = []
    for count, classes, steps in ((3, 3, 8), (1, 4, 6)):
        case = _cases.explained(rng, count, classes, height=6, width=8)
        cases.append(case | {"heatmaps": _cases.heatmaps(rng, count), "steps": steps})
    return cases


def _curve(
    model,
    images,
    targets,
    heatmaps,
    steps,
    *,
    order=-1,
    together=False,
    channels=3,
    fill=None,
    output=jax.nn.softmax,
) -> np.ndarray:
    """Return the curve by the definition, or with a mistake in one of its parts."""
    images, heatmaps = np.asarray(images), np.asarray(heatmaps)
    count, height, width = heatmaps.shape
    ranked = np.argsort(order * heatmaps.reshape(count, -1), axis=1, kind="stable")
    color = images.mean((1, 2), keepdims=True) if fill is None else fill(images)
    scores = []
    for step in range(steps + 1):
        gone = np.zeros((count, height * width), bool)
        first = ranked[:, : round(step * height * width / steps)]
        np.put_along_axis(gone, first, True, axis=1)
        if together:
            gone = _highest(heatmaps, step / steps).reshape(gone.shape)
        mask = gone.reshape(count, height, width, 1) & (np.arange(3) < channels)
        logits = _cases.logits(model, np.where(mask, color, images))
        scores.append(np.asarray(output(logits))[np.arange(count), targets])
    return np.stack(scores, 1)


def _highest(heatmaps, share) -> np.ndarray:
    """Return where the highest values of all maps together are."""
    place = np.argsort(np.argsort(-np.ravel(heatmaps), kind="stable")).reshape(heatmaps.shape)
    return place < round(share * place.size)


def _wrong(**parts):
    return lambda **given: _curve(**given, **parts)


def _nothing_left(call: Call, rng: np.random.Generator) -> bool:
    """48 pixels do not go in 7 equal steps, and yet all of them are gone at the end."""
    while True:
        case = _draw(rng)[1]
        by_six = _curve(case["model"], case["images"], case["targets"], case["heatmaps"], 8)[0]
        if abs(by_six[7] - by_six[8]) > 0.03:  # so it can be seen whether the last six are left
            found = np.asarray(call(case | {"steps": 7}), np.float64)[0]
            return bool(abs(found[-1] - by_six[8]) < 0.01)


def _as_many(call: Call, rng: np.random.Generator) -> bool:
    """Half of the pixels are gone at step 2 of 4, also where most have the same value."""
    while True:
        case = _draw(rng)[1] | {"steps": 4}
        # Twelve stand out. Of the others any twelve may be gone at step 2, and not all of them.
        high = case["heatmaps"] > np.quantile(case["heatmaps"], 0.75)
        ties = np.stack([*rng.random((20, 48)), *np.linspace([0, 1], [1, 0], 48).T])
        orders = 2 * high + ties.reshape(-1, *high.shape[1:])
        images, targets = (np.repeat(case[name], len(orders), 0) for name in ("images", "targets"))
        curves = _curve(case["model"], images, targets, orders, 4)
        if np.abs(curves[:, 2] - curves[:, 4]).min() > 0.05:
            found = np.asarray(call(case | {"heatmaps": np.float32(high)}), np.float64)[0]
            return bool(abs(found[2] - found[4]) > 0.01 > abs(found[4] - curves[0, 4]))


def _cumulative(call: Call, rng: np.random.Generator) -> bool:
    """All that is gone stays gone, and at the end nothing is left of the picture."""
    case = _draw(rng)[0]
    other = case | {"heatmaps": case["heatmaps"][:, ::-1, ::-1].copy()}
    one, two = (np.asarray(call(given), np.float64) for given in (case, other))
    return bool(np.abs(one[:, [0, -1]] - two[:, [0, -1]]).max() < 0.01)


EXERCISE = Exercise(
    id="1.8",
    name="deletion_curve",
    title="Take the most relevant pixels away, and watch the probability",
    points=5,
    difficulty=3,
    minutes=14,
    cases=_draw,
    reference=_curve,
    hint="Rank the pixels, the highest first. At step k of `steps`, replace the first k / steps of "
    "them, in all three channels, by the mean colour of their own image, and record the "
    "target's probability. With the untouched image these are steps + 1 values.",
    mistakes=(
        Mistake(
            "the least relevant pixels first",
            "Sort in descending order: argsort(-heatmap).",
            _wrong(order=1),
        ),
        Mistake(
            "one order for the pixels of all images",
            "Each image has its own order: one row of pixels for each, sorted along axis 1.",
            _wrong(together=True),
        ),
        Mistake(
            "one colour channel deleted",
            "A pixel goes with all its channels: let the mask broadcast over the last axis.",
            _wrong(channels=1),
        ),
        Mistake(
            "the logit that is recorded",
            "Record the probability: softmax of the logits, then the target's.",
            _wrong(output=lambda logits: logits),
        ),
        Mistake(
            "black in the place of deleted pixels",
            "Put the image's mean colour there, one for each channel.",
            _wrong(fill=lambda images: 0 * images[:, :1, :1]),
        ),
        Mistake(
            "a mean grey in the place of deleted pixels",
            "The mean colour has a value for each channel: average over rows and columns alone.",
            _wrong(fill=lambda images: images.mean((1, 2, 3), keepdims=True)),
        ),
        Mistake(
            "the mean colour of the whole batch",
            "Each image has a mean colour of its own.",
            _wrong(fill=lambda images: images.mean((0, 1, 2), keepdims=True)),
        ),
        Mistake(
            "pixels ranked by their magnitude",
            "A pixel that speaks against the class comes last: sort the values with their sign.",
            lambda model, images, targets, heatmaps, steps: _curve(
                model, images, targets, np.abs(heatmaps), steps
            ),
        ),
    ),
    properties=(
        Property(
            "a curve that ends without a picture",
            "at k = steps all pixels are gone, also when `steps` does not divide their number. "
            "Count them by round(k * pixels / steps), and not by k times a rounded step.",
            _nothing_left,
        ),
        Property(
            "a curve of k / steps of the pixels where values are equal",
            "many pixels of a map may have one value (0 in Grad-CAM's), and must not go all at "
            "once: go by their place in the order, and not by their value.",
            _as_many,
        ),
    ),
)
### BEGIN HIDDEN TESTS
_ENDS = Property(
    "the same at both ends for any map",
    "The curve begins at the untouched image, and ends where all pixels are replaced.",
    _cumulative,
)
EXERCISE = replace(
    EXERCISE, hidden=(_ENDS, _cases.batch_order(_draw, "images", "targets", "heatmaps"))
)
### END HIDDEN TESTS
