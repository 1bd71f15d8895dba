"""1.12: the spectrum with each filter weighted by its saliency."""

from dataclasses import replace

import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    return [
        {"kernels": rng.normal(0, 1, shape), "slopes": rng.normal(0, 1, shape), "basis": basis}
        for shape, basis in (((3, 3, 4, 5), _cases.dct(3)), ((5, 5, 3, 2), _cases.dct(5)))
    ]


def _weights(slopes):
    return np.abs(slopes).sum((0, 1))


def _spectrum(kernels, slopes, basis, weigh=_weights, magnitude=np.abs):
    filters = np.reshape(kernels, (-1, kernels.shape[2] * kernels.shape[3]))
    parts = magnitude(np.reshape(basis, (len(basis), -1)) @ filters)
    return parts @ np.reshape(weigh(slopes), -1)


EXERCISE = Exercise(
    id="1.12",
    name="saliency_spectrum",
    title="Which patterns does the logit depend on?",
    points=3,
    difficulty=2,
    minutes=6,
    cases=_draw,
    reference=_spectrum,
    hint="A filter's weight is the sum of the magnitudes of its slopes over rows and columns. "
    "Add up weight times magnitude of the filter's part over all filters.",
    mistakes=(
        Mistake(
            "filters that a `reshape` has cut out of the wrong numbers",
            "`reshape` does not move axes: filter (i, o) is kernels[:, :, i, o].",
            lambda kernels, slopes, basis: _spectrum(
                _cases.cut(kernels), _cases.cut(slopes), basis
            ),
        ),
        Mistake(
            "parts with a sign",
            "Take the magnitude of each filter's part, as in 1.11.",
            lambda kernels, slopes, basis: _spectrum(
                kernels, slopes, basis, magnitude=lambda parts: parts
            ),
        ),
        Mistake(
            "squares of the parts",
            "Take the magnitude of each filter's part, as in 1.11, not its square.",
            lambda kernels, slopes, basis: _spectrum(kernels, slopes, basis, magnitude=np.square),
        ),
        Mistake(
            "weights that are the squares of the slopes",
            "Add up the magnitudes of the slopes, not their squares.",
            lambda kernels, slopes, basis: _spectrum(
                kernels, slopes, basis, lambda s: (s**2).sum((0, 1))
            ),
        ),
        Mistake(
            "weights that are the mean of the slopes' magnitudes",
            "Add the magnitudes of the slopes up over rows and columns.",
            lambda kernels, slopes, basis: _spectrum(
                kernels, slopes, basis, lambda s: np.abs(s).mean((0, 1))
            ),
        ),
        Mistake(
            "weights that add up to 1",
            "Do not normalize the weights.",
            lambda kernels, slopes, basis: _spectrum(
                kernels, slopes, basis, lambda s: _weights(s) / _weights(s).sum()
            ),
        ),
        Mistake(
            "shares, which add up to 1",
            "Return the energies themselves.",
            lambda kernels, slopes, basis: (
                (energy := _spectrum(kernels, slopes, basis)) / energy.sum()
            ),
        ),
        Mistake(
            "weights that are the magnitude of the slopes' sum",
            "Take the magnitude of each slope before you add them up.",
            lambda kernels, slopes, basis: _spectrum(
                kernels, slopes, basis, lambda s: np.abs(s.sum((0, 1)))
            ),
        ),
        Mistake(
            "weights with a sign",
            "A filter that lowers the logit matters just as much: take magnitudes.",
            lambda kernels, slopes, basis: _spectrum(
                kernels, slopes, basis, lambda s: s.sum((0, 1))
            ),
        ),
        Mistake(
            "filters that all have the same weight",
            "Weight each filter by how strongly the logit depends on it.",
            lambda kernels, slopes, basis: _spectrum(
                kernels, slopes, basis, lambda s: 1 + 0 * s[0, 0]
            ),
        ),
        Mistake(
            "the spectrum of the slopes",
            "The parts come from the filters; the slopes are only their weights.",
            lambda kernels, slopes, basis: _spectrum(slopes, kernels, basis),
        ),
        Mistake(
            "slopes times filters as weights",
            "Here a filter's weight depends only on its slopes.",
            lambda kernels, slopes, basis: _spectrum(
                kernels, slopes, basis, lambda s: np.abs(s * kernels).sum((0, 1))
            ),
        ),
        Mistake(
            "the mean over the filters",
            "Add them up: the weights say how much each counts.",
            lambda kernels, slopes, basis: (
                _spectrum(kernels, slopes, basis) / (kernels.shape[2] * kernels.shape[3])
            ),
        ),
    ),
)
### BEGIN HIDDEN TESTS
_LINEAR = _cases.relation(
    "in proportion to the slopes' size",
    "Twice the slopes have twice the energy.",
    _draw,
    lambda case: {"slopes": -2 * case["slopes"]},
    lambda answer: 2 * answer,
)
EXERCISE = replace(EXERCISE, hidden=(_LINEAR,))
### END HIDDEN TESTS
