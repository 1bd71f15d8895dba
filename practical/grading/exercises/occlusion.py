"""1.1: occlusion."""

from dataclasses import replace
from functools import partial

import numpy as np

from practical import attribution
from practical.grading.exercise import Exercise, Mistake, Property
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    colors = rng.random((2, 3), np.float32)
    return [
        _cases.explained(rng, 2) | {"window": 4, "stride": 2, "color": colors[:, None, None]},
        _cases.explained(rng, 1, height=9, width=6) | {"window": 3, "stride": 3}
        | {"color": colors[1]},
    ]  # fmt: skip


def _answer(model, images, targets, window, stride, color):
    shown = np.broadcast_to(np.asarray(color, np.float32), np.shape(images))
    return attribution.occlusion(
        model, images, targets, window=window, stride=stride, baseline=shown
    )


def _probability(model, images, targets, window, stride, color):
    return _answer(_cases.softmaxed(model), images, targets, window, stride, color)


def _black(model, images, targets, window, stride, color):
    return _answer(model, images, targets, window, stride, 0 * color)


def _by_hand(
    model,
    images,
    targets,
    window,
    stride,
    color,
    *,
    channels=3,
    fresh=True,
    ends=lambda height, width, window: (height - window + 1, width - window + 1),
    falls=lambda falls: falls,
    added=True,
    dtype: type = np.float32,
    divisor=lambda covers: covers.clip(1),
):
    """Return the answer by the definition, or with a mistake in one of its parts."""
    total, covers = np.zeros(images.shape[:3], dtype), np.zeros(images.shape[1:3])
    each, hidden = np.arange(len(images)), images.copy()
    before = _cases.logits(model, images)[each, targets]
    bottom, right = ends(*images.shape[1:3], window)
    for top in range(0, bottom, stride):
        for left in range(0, right, stride):
            place = np.s_[:, top : top + window, left : left + window]
            hidden = images.copy() if fresh else hidden
            hidden[*place, slice(channels)] = color[..., :channels]
            fall = falls(before - _cases.logits(model, hidden)[each, targets])[:, None, None]
            total[place] = added * total[place] + fall
            covers[place[1:]] += 1
    return total / divisor(covers)


def _until(ends):
    """Return the answer whose corners end where `ends` of height, width and window says."""
    return partial(_by_hand, ends=ends)


EXERCISE = Exercise(
    id="1.1",
    name="occlusion",
    title="Hide squares, and record how far the logit falls",
    points=4,
    difficulty=2,
    minutes=12,
    cases=_draw,
    reference=_answer,
    hint="For each place: paint the square in a copy of the images, and add what the logit of "
    "the target lost to all pixels of the square. At the end, divide by how many squares "
    "covered each pixel.",
    mistakes=(
        Mistake(
            "the sum over the squares that cover a pixel",
            "Divide by how many squares cover it: a pixel at the edge is covered by fewer.",
            partial(_by_hand, divisor=np.ones_like),
        ),
        Mistake(
            "a sum that is divided by the number of all squares",
            "Divide each pixel's sum by the number of squares that cover this pixel.",
            lambda window, stride, images, **given: _by_hand(
                images=images,
                window=window,
                stride=stride,
                divisor=lambda _: np.prod([1 + (n - window) // stride for n in images.shape[1:3]]),
                **given,
            ),
        ),
        Mistake(
            "values of the last square only, divided by the number of squares",
            "Add each square's fall to the pixels that it covers: `+=`, not `=`.",
            partial(_by_hand, added=False),
        ),
        Mistake(
            "falls that are cut to whole numbers",
            "Add the falls up in an array of floats: create it without `int`.",
            partial(_by_hand, dtype=int),
        ),
        Mistake(
            "falls only, with rises set to 0",
            "Keep the sign: a negative value means that hiding raised the logit.",
            partial(_by_hand, falls=lambda falls: falls.clip(0)),
        ),
        Mistake(
            "the fall of a probability",
            "Use the logit, what the model returns, without a softmax.",
            _probability,
        ),
        Mistake(
            "the fall of the predicted class's logit",
            "Use the logit of `targets`, which need not be the largest.",
            lambda model, images, targets, **squares: _answer(
                model, images, _cases.predicted(model, images), **squares
            ),
        ),
        Mistake("a black square, whatever `color` is", "Paint the square in `color`.", _black),
        Mistake(
            "a square that is hidden in one color channel only",
            "Paint all three: images[:, rows, columns] = color.",
            partial(_by_hand, channels=1),
        ),
        Mistake(
            "squares that stay hidden while the next ones are",
            "Paint each square in a fresh copy of the images.",
            partial(_by_hand, fresh=False),
        ),
        Mistake(
            "squares that stop before the last row and column",
            "The last corner is at size - window, and `range` stops before its end.",
            _until(lambda height, width, window: (height - window, width - window)),
        ),
        Mistake(
            "squares that reach over the edge of the image",
            "The last corner is at size - window.",
            _until(lambda height, width, window: (height, width)),
        ),
        Mistake(
            "columns that are counted by the height",
            "An image's shape is (height, width, 3), and the images need not be square.",
            _until(lambda height, width, window: (height - window + 1, height - window + 1)),
        ),
        Mistake(
            "rows that are counted by the width",
            "An image's shape is (height, width, 3), and the images need not be square.",
            _until(lambda height, width, window: (width - window + 1, width - window + 1)),
        ),
        Mistake(
            "height and width exchanged",
            "An image's shape is (height, width, 3): rows come first.",
            _until(lambda height, width, window: (width - window + 1, height - window + 1)),
        ),
        Mistake(
            "a square at every pixel, whatever `stride` is",
            "Move the square by `stride` pixels.",
            lambda stride, **given: _by_hand(stride=1, **given),
        ),
        Mistake(
            "squares side by side, whatever `stride` is",
            "Move the square by `stride` pixels, not by `window`.",
            lambda stride, window, **given: _by_hand(stride=window, window=window, **given),
        ),
    ),
)
### BEGIN HIDDEN TESTS
_UNCHANGED = Property(
    "0 where the square shows what was there",
    "A square in the image's own colour changes nothing, so nothing falls.",
    lambda call, rng: np.allclose(
        call(
            _cases.explained(rng, 2)
            | {"images": np.full((2, 8, 8, 3), 0.25, np.float32)}
            | {"window": 4, "stride": 4, "color": np.full(3, 0.25, np.float32)}
        ),
        0,
        atol=1e-3,
    ),
)
EXERCISE = replace(EXERCISE, hidden=(_UNCHANGED,))
### END HIDDEN TESTS
