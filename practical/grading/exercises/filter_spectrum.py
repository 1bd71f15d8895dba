"""1.11: the spectrum of a layer's filters."""

from dataclasses import replace

import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    return [
        {"kernels": rng.normal(0, 1, (3, 3, 4, 5)), "basis": _cases.dct(3)},
        {"kernels": rng.normal(0.2, 0.1, (5, 5, 3, 2)), "basis": _cases.dct(5)},
    ]


def _parts(kernels, basis) -> np.ndarray:
    """Return each filter's part of each basis filter: (in, out, basis)."""
    height, width, inputs, outputs = np.shape(kernels)
    parts = np.reshape(basis, (-1, height * width)) @ np.reshape(kernels, (height * width, -1))
    return parts.T.reshape(inputs, outputs, -1)


def _spectrum(kernels, basis) -> np.ndarray:
    return np.abs(_parts(kernels, basis)).mean((0, 1))


EXERCISE = Exercise(
    id="1.11",
    name="filter_spectrum",
    title="How much of each pattern is in a layer?",
    points=3,
    difficulty=2,
    minutes=6,
    cases=_draw,
    reference=_spectrum,
    hint="A filter's part of b_k is the sum of their products over rows and columns. Average the "
    "magnitudes over all filters, one for each pair of an input and an output channel.",
    mistakes=(
        Mistake(
            "filters that a `reshape` has cut out of the wrong numbers",
            "`reshape` does not move axes: filter (i, o) is kernels[:, :, i, o].",
            lambda kernels, basis: _spectrum(_cases.cut(kernels), basis),
        ),
        Mistake(
            "filters with rows and columns exchanged",
            "The axes of `kernels` are row, column, input, output.",
            lambda kernels, basis: _spectrum(np.swapaxes(kernels, 0, 1), basis),
        ),
        Mistake(
            "the root of the mean square",
            "ExplainFix takes the mean of the magnitudes.",
            lambda kernels, basis: np.sqrt((_parts(kernels, basis) ** 2).mean((0, 1))),
        ),
        Mistake(
            "magnitudes of the filters' values",
            "Multiply and add up with the signs; the magnitude is that of the sum.",
            lambda kernels, basis: np.abs(_parts(np.abs(kernels), basis)).mean((0, 1)),
        ),
        Mistake(
            "squares instead of magnitudes",
            "ExplainFix takes the magnitude of each filter's part.",
            lambda kernels, basis: (_parts(kernels, basis) ** 2).mean((0, 1)),
        ),
        Mistake(
            "the magnitude of the mean filter's parts",
            "Take the magnitude of each filter's part before you average: they would cancel.",
            lambda kernels, basis: np.abs(_parts(kernels, basis).mean((0, 1))),
        ),
        Mistake(
            "the mean without the magnitude",
            "Energy has no sign: take the magnitude of each filter's part.",
            lambda kernels, basis: _parts(kernels, basis).mean((0, 1)),
        ),
        Mistake(
            "the sum over the filters",
            "Take their mean, so that layers of any width compare.",
            lambda kernels, basis: np.abs(_parts(kernels, basis)).sum((0, 1)),
        ),
        Mistake(
            "filters added up over their input channels first",
            "A filter belongs to a pair of channels: take magnitudes before you add any up.",
            lambda kernels, basis: np.abs(_parts(kernels, basis).sum(0)).mean(0),
        ),
        Mistake(
            "shares, which add up to 1",
            "Return the energies themselves.",
            lambda kernels, basis: _spectrum(kernels, basis) / _spectrum(kernels, basis).sum(),
        ),
    ),
)
### BEGIN HIDDEN TESTS
_SIGNLESS = _cases.relation(
    "the same for the negative filters",
    "A filter and its negative hold the same pattern.",
    _draw,
    lambda case: {"kernels": -case["kernels"]},
    lambda answer: answer,
)
EXERCISE = replace(EXERCISE, hidden=(_SIGNLESS,))
### END HIDDEN TESTS
