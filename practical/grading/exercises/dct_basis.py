"""1.10: the basis of the discrete cosine transform."""

from dataclasses import replace

import numpy as np

from practical import explainfix
from practical.grading.exercise import Call, Exercise, Mistake, Property


def _draw(rng: np.random.Generator) -> list[dict]:
    # Odd sizes: at even ones, a whole wave may be 0 up to rounding, and its length meaningless.
    return [{"size": int(size)} for size in (3, 5, *rng.choice((7, 9, 11), 1))]


def _basis(size: int) -> np.ndarray:
    return np.asarray(explainfix.dct_basis((size, size)))


def _outer(waves: np.ndarray) -> np.ndarray:
    size = len(waves)
    return np.reshape(waves[:, None, :, None] * waves[None, :, None], (size * size, size, size))


def _waves(size: int, shift: float = 0.5, half: float = 1.0) -> np.ndarray:
    number, place = np.indices((size, size))
    return np.cos(half * np.pi / size * number * (place + shift))


def _unit(waves: np.ndarray) -> np.ndarray:
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)


def _orthonormal(call: Call, rng: np.random.Generator) -> bool:
    size = int(rng.integers(5, 9))
    flat = np.asarray(call({"size": size}), np.float64).reshape(size * size, -1)
    return np.allclose(flat @ flat.T, np.eye(size * size), atol=1e-3)


EXERCISE = Exercise(
    id="1.10",
    name="dct_basis",
    title="What filters are made of",
    points=4,
    difficulty=3,
    minutes=12,
    cases=_draw,
    reference=_basis,
    hint="Wave k is cos(pi / size * k * (i + 1/2)) at i = 0 ... size - 1, divided by its length. "
    "Basis filter k * size + l is the outer product of wave k (rows) and wave l (columns).",
    mistakes=(
        Mistake(
            "waves that are not of length 1",
            "Divide each wave by its norm; the constant one's differs from the others'.",
            lambda size: _outer(_waves(size)),
        ),
        Mistake(
            "the constant wave scaled as the others are",
            "Its norm is the square root of size, that of the others of size / 2.",
            lambda size: _outer(_waves(size) * np.sqrt(2 / size)),
        ),
        Mistake(
            "all waves divided by the length of the constant one",
            "Divide each wave by its own norm.",
            lambda size: _outer(_waves(size) / np.sqrt(size)),
        ),
        Mistake(
            "norms along the wrong axis",
            "A wave is a row: its norm is over axis 1.",
            lambda size: _outer(_waves(size) / np.linalg.norm(_waves(size), axis=0, keepdims=True)),
        ),
        Mistake(
            "a `reshape` of axes in the wrong order",
            "The axes have to be wave, wave, row, column before the first two are joined.",
            lambda size: np.einsum("ki,lj->kilj", _unit(_waves(size)), _unit(_waves(size))).reshape(
                size * size, size, size
            ),
        ),
        Mistake(
            "waves that are read at the pixels' edges",
            "Read them in the middle of the pixels: i + 1/2.",
            lambda size: _outer(_unit(_waves(size, shift=0))),
        ),
        Mistake(
            "whole waves instead of half ones",
            "Wave k has k half waves over the filter: pi, not 2 pi.",
            lambda size: _outer(_unit(_waves(size, half=2))),
        ),
        Mistake(
            "rows and columns exchanged in the order of the basis",
            "The columns' frequency changes fastest: filter 1 varies from left to right.",
            lambda size: np.swapaxes(_basis(size), 1, 2),
        ),
    ),
    properties=(
        Property(
            "orthonormal",
            "the sum of a basis filter's squares is 1, and two different ones have a product of 0.",
            _orthonormal,
        ),
    ),
)
### BEGIN HIDDEN TESTS
_LARGE = Property(
    "right for large filters",
    "Any size has to work.",
    lambda call, rng: np.allclose(
        call({"size": (size := int(rng.integers(10, 14)))}), _basis(size), atol=1e-3
    ),
)
EXERCISE = replace(EXERCISE, hidden=(_LARGE,))
### END HIDDEN TESTS
