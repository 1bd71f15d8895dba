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
    rank=lambda flat: _places(-flat),
    axes=lambda heatmaps: heatmaps.reshape(len(heatmaps), -1),
    channels=3,
    fill=lambda images, gone: images.mean((1, 2), keepdims=True),
    insertion=False,
    output=jax.nn.softmax,
) -> np.ndarray:
    """Return the curve by the definition, or with a mistake in one of its parts."""
    images, heatmaps = np.asarray(images), np.asarray(heatmaps)
    flat = axes(heatmaps)
    pixels = np.prod(flat.shape[1:])
    places = rank(flat).reshape(heatmaps.shape)
    scores = []
    for step in range(steps + 1):
        gone = (places < round(step * pixels / steps))[..., None]
        mask = gone & (np.arange(3) < channels)
        shown = np.where(mask ^ insertion, fill(images, gone), images).astype(np.float32)
        probabilities = np.asarray(output(_cases.logits(model, shown)))
        scores.append(probabilities[np.arange(len(images)), targets])
    return np.stack(scores, 1)


def _places(values: np.ndarray) -> np.ndarray:
    """Return the place of each value in the order of the last axis, which starts at 0."""
    return values.argsort(axis=-1, kind="stable").argsort(axis=-1)


def _mean_of_rest(images: np.ndarray, gone: np.ndarray) -> np.ndarray:
    left = (~gone).sum((1, 2), keepdims=True)
    return (images * ~gone).sum((1, 2), keepdims=True) / left.clip(1)


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
    "them, in all three channels, by the mean color of their own image, and record the "
    "target's probability. With the untouched image these are steps + 1 values.",
    mistakes=(
        Mistake(
            "the least relevant pixels first",
            "Sort in descending order: argsort(-heatmap).",
            _wrong(rank=_places),
        ),
        Mistake(
            "a single `argsort` taken for the pixels' places",
            "`argsort` returns which pixel comes first, second, ... The `argsort` of that is each "
            "pixel's place in the order.",
            _wrong(rank=lambda flat: np.argsort(-flat, axis=-1, kind="stable")),
        ),
        Mistake(
            "a single `argsort` in ascending order, taken for the pixels' places",
            "`argsort(-heatmap)` returns which pixel comes first, second, ... The `argsort` of "
            "that is each pixel's place in the order.",
            _wrong(rank=lambda flat: np.argsort(flat, axis=-1, kind="stable")),
        ),
        Mistake(
            "one order for the pixels of all images",
            "Each image has its own order: one row of pixels for each, sorted along axis 1.",
            _wrong(axes=lambda heatmaps: heatmaps.reshape(1, -1)),
        ),
        Mistake(
            "an order within each row of the map",
            "Rank all pixels of an image together: flatten each map before you sort it.",
            _wrong(axes=lambda heatmaps: heatmaps),
        ),
        Mistake(
            "pixels put in, not taken away",
            "The most relevant pixels get the mean color first; all others stay.",
            _wrong(insertion=True),
        ),
        Mistake(
            "one color channel deleted",
            "A pixel goes with all its channels: let the mask broadcast over the last axis.",
            _wrong(channels=1),
        ),
        Mistake(
            "the fall of the probability",
            "Record the probability itself at each step.",
            lambda **given: (curve := _curve(**given))[:, :1] - curve,
        ),
        Mistake(
            "the probability as a share of the one at the beginning",
            "Record the probability itself at each step.",
            lambda **given: (curve := _curve(**given)) / curve[:, :1],
        ),
        Mistake(
            "a softmax over the batch",
            "The probabilities of an image's classes add up to 1: softmax over the last axis.",
            _wrong(output=lambda logits: jax.nn.softmax(logits, axis=0)),
        ),
        Mistake(
            "the largest probability, not the target's",
            "Follow the probability of `targets`, also where another class is more probable.",
            _wrong(
                output=lambda logits: np.broadcast_to(
                    jax.nn.softmax(logits).max(1, keepdims=True), logits.shape
                )
            ),
        ),
        Mistake(
            "the logit instead of the probability",
            "Record the probability: softmax of the logits, then the target's.",
            _wrong(output=lambda logits: logits),
        ),
        Mistake(
            "black for deleted pixels",
            "Use the image's mean color, which has a value for each channel.",
            _wrong(fill=lambda images, gone: 0 * images[:, :1, :1]),
        ),
        Mistake(
            "a mean gray for deleted pixels",
            "The mean color has a value for each channel: average over rows and columns only.",
            _wrong(fill=lambda images, gone: images.mean((1, 2, 3), keepdims=True)),
        ),
        Mistake(
            "the mean color of the whole batch",
            "Each image has its own mean color.",
            _wrong(fill=lambda images, gone: images.mean((0, 1, 2), keepdims=True)),
        ),
        Mistake(
            "a mean over images and rows",
            "In a batch, rows and columns are the axes 1 and 2.",
            _wrong(fill=lambda images, gone: images.mean((0, 1), keepdims=True)),
        ),
        Mistake(
            "the mean color of the pixels that are left",
            "Take the mean color of the whole image once, before any pixel is deleted.",
            _wrong(fill=_mean_of_rest),
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
            "Their number is round(k * pixels / steps), not k times a rounded step.",
            _nothing_left,
        ),
        Property(
            "a curve of k / steps of the pixels where values are equal",
            "many pixels of a map may have the same value (0 in Grad-CAM's), and must not go all "
            "at once: compare their places in the order, not their values.",
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
