"""2.3: the verdict."""

from dataclasses import replace

import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    return [
        _line_up(rng, int(rng.integers(180, 260)), rng.uniform(0.03, 0.07)),
        _line_up(rng, 90, rng.uniform(0.12, 0.16)),
    ]


def _line_up(rng: np.random.Generator, images: int, margin: float) -> dict:
    """Draw which images some networks name rightly, networks of both sides of the margin.

    Of a network, some images become wrong when the artefact is swapped, a few become right, and
    the rest are as they were. How far its mean fall is above the margin is counted in its own
    standard errors: at 1.96 it is convicted.
    """
    networks = [(0, 0, 1.0), (images, 0, 1.0), (images // 2, 2, 0.98), (4, 4, 0.6)]
    for low, high in ((-1.5, -0.3), (1.72, 1.9), (2.02, 2.2), (0.3, 1.5)):
        networks.append(_between(rng, images, margin, low, high))
    rng.shuffle(networks)
    aligned, swapped = (np.zeros((len(networks), images), bool) for _ in range(2))
    for row, (wrong, right, share) in enumerate(networks):
        stay = round(max(share * images - wrong, 0))
        order = rng.permutation(images)
        aligned[row, order[: wrong + stay]] = True
        swapped[row, order[wrong : wrong + stay + right]] = True
    return {"aligned": aligned, "swapped": swapped, "margin": margin}


def _between(rng: np.random.Generator, images: int, margin: float, low: float, high: float):
    """Return how many images become wrong, how many right, and the share that is right before."""
    while True:
        right = int(rng.integers(2, 6))
        wrong = int(rng.integers(right, images // 2))
        falls = np.repeat([1.0, -1.0, 0.0], [wrong, right, images - wrong - right])
        if low < (falls.mean() - margin) / (falls.std(ddof=1) / np.sqrt(images)) < high:
            return wrong, right, 0.85


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
