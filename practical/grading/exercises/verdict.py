"""2.3: the verdict."""

from dataclasses import replace

import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    return [
        _line_up(rng, int(rng.integers(180, 260)), rng.uniform(0.03, 0.07)),
        _line_up(rng, 90, rng.uniform(0.12, 0.16)),
        _small_line_up(rng, 12),
    ]


def _line_up(rng: np.random.Generator, images: int, margin: float) -> dict:
    """Draw which images some networks name correctly, networks on both sides of the margin.

    Of a network, some images become wrong when the artefact is swapped, a few become right, and
    the rest do not change. How far its mean fall is above the margin is counted in its own
    standard errors: at 1.96 it is convicted.
    """
    networks = [
        (0, 0, 1.0),
        (images, 0, 1.0),
        (images // 2, 2, 0.98),
        (4, 4, 0.6),
        (images // 5, images // 6, 0.6),  # many answers change, and the accuracy hardly does
        (images // 10, images // 11, 0.7),
        (images // 3, images // 8, 0.8),
        (3, images // 2, 0.3),  # better on swapped images
        # Its mean is above the margin, and its wide interval reaches below 0.
        (images // 5 + round(1.3 * margin * images), images // 5, 0.7),
    ]
    for low, high in ((-1.5, -0.3), (1.72, 1.9), (2.02, 2.2), (0.3, 1.5)):
        networks.append((*_between(rng, images, margin, low, high), 0.85))
    # Where half of the answers are right, an interval for unpaired answers is much wider.
    networks += [(*_between(rng, images, margin, low, low + 0.5), 0.6) for low in (2.2, 2.7)]
    rng.shuffle(networks)
    aligned, swapped = (np.zeros((len(networks), images), bool) for _ in range(2))
    for row, (wrong, right, share) in enumerate(networks):
        stay = min(round(max(share * images - wrong, 0)), images - wrong - right)
        order = rng.permutation(images)
        aligned[row, order[: wrong + stay]] = True
        swapped[row, order[wrong : wrong + stay + right]] = True
    return {"aligned": aligned, "swapped": swapped, "margin": margin}


def _small_line_up(rng: np.random.Generator, images: int) -> dict:
    """Draw networks, and a margin at which details of the interval decide.

    With few images, the deviation for n and the one for n - 1 differ by some percent, and an
    interval that is divided by n has a visible width.
    """
    while True:
        aligned = rng.random((10, images)) < 0.9
        swapped = rng.random((10, images)) < rng.uniform(0.2, 0.8, (10, 1))
        falls = _falls(aligned, swapped)
        error = _error(falls)
        margin = falls[0].mean() - 1.92 * error[0]
        above = falls.mean(1) - margin
        limits = (0.1, 0.9 * 1.96 / np.sqrt(images)), (1.1 * 1.96 / np.sqrt(images), 1.8)
        inside = [((low * error < above) & (above < high * error)).any() for low, high in limits]
        if margin > 0.05 and all(inside):
            return {"aligned": aligned, "swapped": swapped, "margin": float(margin)}


def _between(rng: np.random.Generator, images: int, margin: float, low: float, high: float):
    """Return how many images become wrong and how many right, for a fall between two limits.

    The limits count the network's standard errors above the margin.
    """
    while True:
        right = int(rng.integers(2, 6))
        wrong = int(rng.integers(right, images // 2))
        falls = np.repeat([1.0, -1.0, 0.0], [wrong, right, images - wrong - right])
        if low < (falls.mean() - margin) / (falls.std(ddof=1) / np.sqrt(images)) < high:
            return wrong, right


def _falls(aligned, swapped) -> np.ndarray:
    return np.asarray(aligned, float) - np.asarray(swapped, float)


def _convict(aligned, swapped, margin, *, z=-1.96, falls=_falls, error=None) -> np.ndarray:
    """Return the verdicts by the definition, or with a mistake in one of its parts."""
    changes = falls(aligned, swapped)
    return changes.mean(1) + z * (error or _error)(changes) > margin


def _error(falls: np.ndarray) -> np.ndarray:
    return falls.std(1, ddof=1) / np.sqrt(falls.shape[1])


def _wrong(**parts):
    return lambda aligned, swapped, margin: _convict(aligned, swapped, margin, **parts)


def _unpaired(aligned, swapped, margin) -> np.ndarray:
    variances = np.var(aligned, 1, ddof=1) + np.var(swapped, 1, ddof=1)
    error = np.sqrt(variances / np.shape(aligned)[1])
    return _falls(aligned, swapped).mean(1) - 1.96 * error > margin


EXERCISE = Exercise(
    id="2.3",
    name="convict",
    title="A verdict that you can defend",
    points=4,
    difficulty=2,
    minutes=10,
    cases=_draw,
    reference=_convict,
    hint="For each network: how far each image's answer falls (aligned minus swapped), the mean of "
    "the falls, and the lower end of its interval, mean - 1.96 * standard deviation / sqrt(n). "
    "Convict if that is above the margin.",
    mistakes=(
        Mistake(
            "a standard deviation with ddof=0",
            "Use ddof=1: NumPy's default divides by n, which is too small for few images.",
            _wrong(error=lambda falls: falls.std(1) / np.sqrt(falls.shape[1])),
        ),
        Mistake(
            "rises that are counted as falls, as `^` and `abs` do",
            "Turn the booleans into numbers and subtract them: a rise is -1.",
            _wrong(falls=lambda aligned, swapped: np.abs(_falls(aligned, swapped))),
        ),
        Mistake(
            "rises that are counted as 0",
            "Turn the booleans into numbers and subtract them: a rise is -1.",
            _wrong(falls=lambda aligned, swapped: _falls(aligned, swapped).clip(0)),
        ),
        Mistake(
            "the lower ends of the intervals, not verdicts",
            "Return for each network whether it is above `margin`.",
            lambda aligned, swapped, margin: (
                (falls := _falls(aligned, swapped)).mean(1) - 1.96 * _error(falls)
            ),
        ),
        Mistake(
            "a verdict without the margin",
            "Compare the lower end of the interval with `margin`, not with 0.",
            lambda aligned, swapped, margin: _convict(aligned, swapped, 0),
        ),
        Mistake(
            "a mean above the margin, and an interval above 0",
            "The whole interval has to be above `margin`, not only its middle.",
            lambda aligned, swapped, margin: (
                _convict(aligned, swapped, 0) & _convict(aligned, swapped, margin, z=0)
            ),
        ),
        Mistake(
            "an interval that is divided by n, not by its square root",
            "The standard error is s / sqrt(n).",
            _wrong(error=lambda falls: falls.std(1, ddof=1) / falls.shape[1]),
        ),
        Mistake(
            "an interval for the number of networks, not of images",
            "n is the number of images: aligned.shape[1].",
            _wrong(error=lambda falls: falls.std(1, ddof=1) / np.sqrt(len(falls))),
        ),
        Mistake(
            "a one-sided interval, with 1.645",
            "The interval's ends are 1.96 standard errors from the mean.",
            _wrong(z=-1.645),
        ),
        Mistake(
            "a variance instead of the standard deviation",
            "The standard error is s / sqrt(n), with the standard deviation s.",
            _wrong(error=lambda falls: falls.var(1, ddof=1) / np.sqrt(falls.shape[1])),
        ),
        Mistake(
            "one standard deviation for all networks",
            "Each network has its own: axis=1.",
            _wrong(error=lambda falls: falls.std(ddof=1) / np.sqrt(falls.shape[1])),
        ),
        Mistake(
            "an interval for two unrelated samples",
            "Both answers are to the same images: take the standard deviation of the falls.",
            _unpaired,
        ),
        Mistake(
            "a verdict by the mean fall, without its interval",
            "A few images can fall by chance: the interval's lower end has to be above the margin.",
            lambda aligned, swapped, margin: _convict(aligned, swapped, margin, z=0),
        ),
        Mistake(
            "a verdict by the interval's upper end",
            "Convict only if even the lower end is above the margin.",
            lambda aligned, swapped, margin: _convict(aligned, swapped, margin, z=1.96),
        ),
        Mistake(
            "a verdict against networks that are wrong on swapped images",
            "A bad network is not a faulty one: compare with its own answers to aligned images.",
            lambda aligned, swapped, margin: 1 - np.mean(swapped, 1) > margin,
        ),
        Mistake(
            "a verdict against the network that is best on aligned images",
            "High accuracy is not a fault. What counts is how far it falls.",
            lambda aligned, swapped, margin: np.mean(aligned, 1) >= np.mean(aligned, 1).max(),
        ),
        Mistake(
            "an interval that does not shrink with the number of images",
            "Divide the standard deviation by the square root of their number.",
            _wrong(error=lambda falls: falls.std(1, ddof=1)),
        ),
        Mistake(
            "falls with the opposite sign",
            "A fall is aligned minus swapped.",
            lambda aligned, swapped, margin: _convict(swapped, aligned, margin),
        ),
    ),
)
### BEGIN HIDDEN TESTS
_ORDER = _cases.relation(
    "the same for each network, whatever else is in the line-up",
    "A network's verdict depends only on its own answers.",
    _draw,
    lambda case: {name: case[name][::-1].copy() for name in ("aligned", "swapped")},
    lambda answer: answer[::-1],
)
EXERCISE = replace(EXERCISE, hidden=(_ORDER,))
### END HIDDEN TESTS
