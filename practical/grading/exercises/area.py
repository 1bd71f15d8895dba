"""1.9: the area under a curve."""

from dataclasses import replace

import numpy as np

from practical.grading.exercise import Exercise, Mistake
from practical.grading.exercises import _cases


def _draw(rng: np.random.Generator) -> list[dict]:
    uneven = np.array([0, 0.02, 0.1, 0.25, 0.6, 1.0])
    return [
        {"fractions": uneven, "scores": rng.random((3, 6))},
        {"fractions": np.linspace(0, 1, 5), "scores": rng.random((1, 5))},
        {"fractions": np.linspace(0.1, 0.7, 4), "scores": rng.random((2, 4))},
    ]


def _area(fractions, scores) -> np.ndarray:
    return np.trapezoid(scores, fractions, axis=1)


EXERCISE = Exercise(
    id="1.9",
    name="area",
    title="One number for a curve",
    points=2,
    difficulty=1,
    minutes=4,
    cases=_draw,
    reference=_area,
    hint="Between two points the curve is a straight line: add up the widths times the mean of the "
    "scores at both ends (the trapezoidal rule), for each row of `scores`.",
    mistakes=(
        Mistake(
            "both ends of each piece added up, not averaged",
            "Take the mean of the scores at both ends of a piece: half their sum.",
            lambda fractions, scores: 2 * _area(fractions, scores),
        ),
        Mistake(
            "pieces that all have the same width",
            "The fractions need not be evenly spaced: `np.diff(fractions)` has the widths.",
            lambda fractions, scores: (
                np.trapezoid(scores, axis=1) * np.ptp(fractions) / (len(fractions) - 1)
            ),
        ),
        Mistake(
            "pieces that all have the width of the first",
            "The fractions need not be evenly spaced: `np.diff(fractions)` has the widths.",
            lambda fractions, scores: np.trapezoid(scores, axis=1) * (fractions[1] - fractions[0]),
        ),
        Mistake(
            "the mean of the scores",
            "The fractions need not be evenly spaced: weight each piece by its width.",
            lambda fractions, scores: scores.mean(1),
        ),
        Mistake(
            "each piece taken at its left end",
            "Take the mean of the scores at both ends of a piece.",
            lambda fractions, scores: scores[:, :-1] @ np.diff(fractions),
        ),
        Mistake(
            "each piece taken at its right end",
            "Take the mean of the scores at both ends of a piece.",
            lambda fractions, scores: scores[:, 1:] @ np.diff(fractions),
        ),
        Mistake(
            "a trapezoidal rule with a width of 1",
            "Pass the fractions to the rule as well.",
            lambda fractions, scores: np.trapezoid(scores, axis=1),
        ),
        Mistake(
            "a mean height, the area over the width of the whole curve",
            "Add up the pieces' areas, and do not divide.",
            lambda fractions, scores: _area(fractions, scores) / np.ptp(fractions),
        ),
        Mistake(
            "the same area for all curves",
            "Return an area for each row of `scores`.",
            lambda fractions, scores: 0 * scores[:, 0] + np.trapezoid(scores.mean(0), fractions),
        ),
    ),
)
### BEGIN HIDDEN TESTS
_LINEAR = _cases.relation(
    "linear in the scores",
    "Three times the scores minus 1 have three times the area minus 1.",
    _draw,
    lambda case: {"scores": 3 * case["scores"] - 1},
    lambda answer: 3 * answer - 1,
)
EXERCISE = replace(EXERCISE, hidden=(_LINEAR,))
### END HIDDEN TESTS
