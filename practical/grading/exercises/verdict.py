"""2.3: the verdict."""

from dataclasses import replace

import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    return [
        {"aligned": aligned, "swapped": swapped, "margin": margin}
        for (aligned, swapped), margin in ((_answers(rng, 160), 0.1), (_answers(rng, 60), 0.05))
    ]


# Shares of images named rightly, with the artefact aligned and swapped.
_RIGHTS = (
    (1.0, 1.0),  # nothing falls
    (1.0, 0.0),  # the best of all, and always wrong when the artefact lies
    (0.98, 0.5),  # falls far
    (0.9, 0.78),  # its mean is above both margins, the interval's lower end below
    (0.6, 0.6),  # bad in both
    (0.97, 0.89),  # its mean is below the first margin, the interval's upper end above
)


def _answers(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which images some networks name rightly, in random order: aligned and swapped."""
    counts = np.round(rng.permutation(_RIGHTS) * images)
    order = np.stack([rng.permutation(images) for _ in counts])  # the easiest images first
    return order < counts[:, :1], order < counts[:, 1:]


def _falls(aligned, swapped) -> np.ndarray:
    return np.asarray(aligned, float) - np.asarray(swapped, float)


def _convict(aligned, swapped, margin, z=-1.96) -> np.ndarray:
    falls = _falls(aligned, swapped)
    error = falls.std(1, ddof=1) / np.sqrt(falls.shape[1])
    return falls.mean(1) + z * error > margin


EXERCISE = Exercise(
    id="2.3",
    name="convict",
    title="A verdict that you can defend",
    points=4,
    difficulty=2,
    minutes=10,
    cases=_draw,
    reference=_convict,
    hint="For each network: how far each image's answer falls (aligned less swapped), the mean of "
    "the falls, and the lower end of its interval, mean - 1.96 * standard deviation / sqrt(n). "
    "Convict where that is above the margin.",
    mistakes=(
        Mistake(
            "a verdict by the mean fall, without its interval",
            "Few images can fall by chance: the interval's lower end has to be above the margin.",
            lambda aligned, swapped, margin: _convict(aligned, swapped, margin, z=0),
        ),
        Mistake(
            "a verdict by the interval's upper end",
            "Convict only if even the lower end is above the margin.",
            lambda aligned, swapped, margin: _convict(aligned, swapped, margin, z=1.96),
        ),
        Mistake(
            "a verdict against whoever is wrong on swapped images",
            "A bad network is not a faulty one: compare with its own answers to aligned images.",
            lambda aligned, swapped, margin: 1 - np.mean(swapped, 1) > margin,
        ),
        Mistake(
            "a verdict against the network that is best on aligned images",
            "High accuracy accuses nobody. What counts is how far it falls.",
            lambda aligned, swapped, margin: np.mean(aligned, 1) >= np.mean(aligned, 1).max(),
        ),
        Mistake(
            "an interval that does not shrink with the number of images",
            "Divide the standard deviation by the square root of their number.",
            lambda aligned, swapped, margin: (
                _falls(aligned, swapped).mean(1) - 1.96 * _falls(aligned, swapped).std(1, ddof=1)
                > margin
            ),
        ),
        Mistake(
            "falls that are turned around",
            "A fall is aligned less swapped.",
            lambda aligned, swapped, margin: _convict(swapped, aligned, margin),
        ),
    ),
)
### BEGIN HIDDEN TESTS
_ORDER = _cases.relation(
    "the same for each network, whoever is in the line-up beside it",
    "The verdict is of a network's own answers.",
    _draw,
    lambda case: {name: case[name][::-1].copy() for name in ("aligned", "swapped")},
    lambda answer: answer[::-1],
)
EXERCISE = replace(EXERCISE, hidden=(_ORDER,))
### END HIDDEN TESTS
