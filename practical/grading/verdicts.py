"""Is an answer right? One judge for the notebook's checks and for the grader.

The judge is given a way to call the answer, and never sees its code: in the notebook it is the
function itself, in the grader a worker in a sandbox.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from practical.grading.asking import TARGETS_HINT
from practical.grading.exercise import Arguments, Call, Exercise, Mistake, Property

STATUSES = (
    "passed", "wrong", "raised", "timed out", "crashed", "refused", "missing", "blank",
    "infrastructure",
)  # fmt: skip


class Verdict(NamedTuple):
    """What is said of an answer."""

    status: str  # one of STATUSES
    message: str  # for the student
    mistake: str = ""  # the known mistake's name, if it is one


class InfrastructureError(Exception):
    """The grader could not do its work; the answer is not to blame."""


class Stopped(Exception):
    """The answer gave none: it is blank, raised an error, ran out of time, or ended its process."""

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status, self.message = status, message


def judge(
    exercise: Exercise, call: Call, rng: np.random.Generator, *, hidden: bool = False
) -> Verdict:
    """Call an answer, and say whether it is right.

    Args:
        exercise: What is asked.
        call: Calls the answer.
        rng: Draws the cases.
        hidden: Whether the grader's own properties are checked too, and only authored words said.

    Returns:
        "passed", "wrong", or the status of a `Stopped`.
    """
    with np.errstate(all="ignore"):  # a wrong answer may divide by zero, and so may a mistake's
        return _judge(exercise, call, rng, hidden)


def _judge(exercise: Exercise, call: Call, rng: np.random.Generator, hidden: bool) -> Verdict:
    cases = exercise.cases(rng)
    found: list[Any] = []
    try:
        for case in cases:
            found.append(call(case))
        expected = [exercise.reference(**case) for case in cases]
        told = next(
            (
                words
                for case, answer, right in zip(cases, found, expected, strict=True)
                if (words := _form(answer, right, case.get("targets")))
            ),
            "",
        )
        if not told and all(_close(f, e, exercise) for f, e in zip(found, expected, strict=True)):
            properties = exercise.properties + (exercise.hidden if hidden else ())
            for one in properties:
                if not _holds(one, exercise, call, rng):
                    return Verdict("wrong", f"Not {one.name}: {one.hint}")
            return Verdict("passed", "All checks passed." if hidden else "Public checks passed.")
        mistake = _known(exercise, cases, found)
        if mistake:
            return Verdict("wrong", f"This looks like {mistake.name}. {mistake.hint}", mistake.name)
        general = "" if hidden and not told else told or _pattern(found, expected)
        return Verdict("wrong", " ".join(filter(None, (general, exercise.hint))))
    except Stopped as stopped:
        if stopped.status == "raised" and (mistake := _known(exercise, cases[: len(found)], found)):
            # The answers before the error tell more than the error does.
            words = f"{stopped.message} This looks like {mistake.name}. {mistake.hint}"
            return Verdict(stopped.status, words, mistake.name)
        return Verdict(stopped.status, stopped.message)


def _holds(one: Property, exercise: Exercise, call: Call, rng: np.random.Generator) -> bool:
    def formed(given: Arguments) -> Any:
        found, expected = call(given), exercise.reference(**given)
        if _form(found, expected):
            raise _MalformedError
        # A list or tuple of numbers is as good as an array, and properties compute with arrays.
        return found if isinstance(expected, str | tuple) else np.asarray(found, np.float64)

    try:
        return bool(one.holds(formed, rng))
    except _MalformedError:  # of another form than in the cases before
        return False
    except (ArithmeticError, IndexError, ValueError):
        return False  # numbers that the property cannot be computed from, such as 1e300


class _MalformedError(Exception):
    pass


def _known(exercise: Exercise, cases: Sequence[Arguments], found: list[Any]) -> Mistake | None:
    """Return the mistake that explains the answers to all cases."""
    expected = [exercise.reference(**case) for case in cases]
    for mistake in exercise.mistakes:
        wrong = [mistake.answer(**case) for case in cases]
        # A mistake that changes nothing in any case would be found in every answer.
        if all(_same(w, e, exercise) for w, e in zip(wrong, expected, strict=True)):
            continue
        if all(_same(f, w, exercise) for f, w in zip(found, wrong, strict=True)):
            return mistake
    return None


def _same(found: Any, expected: Any, exercise: Exercise) -> bool:
    return not _form(found, expected) and _close(found, expected, exercise)


def _form(found: Any, expected: Any, targets: Any = None) -> str:
    """Say what is wrong with an answer's form, or nothing; `targets` are those of its case."""
    if isinstance(expected, str):
        return "" if isinstance(found, str) else f"It has to return a text, not {_kind(found)}."
    if isinstance(expected, tuple):
        if not isinstance(found, tuple | list) or len(found) != len(expected):
            return f"It has to return {len(expected)} values, not {_kind(found)}."
        return next((w for f, e in zip(found, expected, strict=True) if (w := _form(f, e))), "")
    wanted = np.shape(expected)
    if found is None:
        return f"It has to return numbers of shape {wanted}, not {_kind(found)}."
    # Before it is copied: what a sandbox sends may be small there and large here.
    if (count := _count(found)) > 1_000_000 + np.size(expected):
        return f"It returns {count:,} numbers, and should return {np.size(expected):,}."
    try:
        array = np.asarray(found, np.float64)
    except (TypeError, ValueError, OverflowError):
        return f"It has to return numbers of shape {wanted}, not {_kind(found)}."
    if array.shape != wanted:
        words = f"The shape of what it returns is {array.shape}, and should be {wanted}."
        return f"{words} {_shape_hint(array.shape, wanted, targets)}".rstrip()
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        return f"{count} of the {array.size} numbers that it returns are not finite."
    return ""


def _shape_hint(shape: tuple[int, ...], wanted: tuple[int, ...], targets: Any) -> str:
    """Return the likely reason for a wrong shape, or nothing."""
    if np.ndim(targets) == 1 and shape == (*wanted, len(targets)):
        return TARGETS_HINT
    if shape == wanted[::-1]:
        return "The axes are in the opposite order."
    if np.prod(shape) == np.prod(wanted):
        return "It has the right number of values, so a `reshape` can give it the right shape."
    return ""


def _count(value: Any) -> int:
    """Return how many numbers there are in arrays, and in tuples and lists of them."""
    if isinstance(value, tuple | list):
        return sum(map(_count, value))
    return int(np.size(value)) if hasattr(value, "__array__") else 1


def _kind(value: Any) -> str:
    if value is None:
        return "None (is there a `return`?)"
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    return f"a {type(value).__name__}"


def _close(found: Any, expected: Any, exercise: Exercise) -> bool:
    if isinstance(expected, str):
        return found == expected
    if isinstance(expected, tuple):
        return all(_close(f, e, exercise) for f, e in zip(found, expected, strict=True))
    right = np.asarray(expected, np.float64)
    if not right.size:
        return True
    return bool(
        np.abs(np.asarray(found, np.float64) - right).max()
        <= exercise.tolerance * max(np.abs(right).max(), 1e-6)
    )


def _pattern(found: list[Any], expected: list[Any]) -> str:
    """Say in which simple way all answers differ from the right ones, if they do in one."""
    pairs = []
    for f, e in zip(found, expected, strict=True):
        if isinstance(e, str | tuple):
            return ""
        pairs.append((np.asarray(f, np.float64), np.asarray(e, np.float64)))

    def like(change) -> bool:
        return all(np.allclose(f, change(e), 0.01, 0.01 * np.abs(e).max()) for f, e in pairs)

    integers = all(np.asarray(f).dtype.kind in "iu" for f in found)
    if integers and any((e % 1).any() for _, e in pairs):
        return "It returns whole numbers: do not store the results in an array of integers."
    if like(np.negative):
        return "The sign is turned around."
    if like(np.abs):
        return "The sign is lost: these are the magnitudes of the right values."
    factors = [_factor(f, e) for f, e in pairs]
    # An answer that is right in one case is not off by a constant.
    if all(abs(factor) > 0 and abs(factor - 1) > 0.01 for factor in factors):
        return (
            f"Each value is a constant times the right one: {factors[0]:.3g} times it in the "
            "first case."
        )
    if all(e.ndim > 1 and _scaled(f, e) for f, e in pairs):
        return (
            "Each entry along the first axis is the right one times a constant of its own: do not "
            "divide an image's values by their maximum or their sum."
        )
    for name, axis in (("rows", -2), ("columns", -1)):
        if all(e.ndim > 1 for _, e in pairs) and like(lambda e, axis=axis: np.flip(e, axis)):
            return f"The {name} are in the opposite order."
    if all(e.ndim > 1 and e.shape[-1] == e.shape[-2] for _, e in pairs) and like(
        lambda e: np.swapaxes(e, -1, -2)
    ):
        return "Rows and columns are exchanged."
    return ""


def _factor(found: np.ndarray, right: np.ndarray) -> float:
    """Return the factor between two arrays, or 0 if they are not proportional."""
    factor = np.vdot(found, right) / max(np.vdot(right, right), 1e-12)
    alike = np.allclose(found, factor * right, 0, 0.002 * abs(factor) * np.abs(right).max())
    return factor if alike and abs(factor) > 1e-6 else 0.0


def _scaled(found: np.ndarray, right: np.ndarray) -> bool:
    """Return whether each entry along the first axis is proportional, and not all are equal."""
    factors = np.array([*map(_factor, found, right)])
    return bool(factors.all() and np.abs(factors - 1).max() > 0.01)
