"""The line under an exercise: is this answer right, and if not, what is the matter?"""

import inspect
import os
import traceback
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import jax
import numpy as np

from practical.data import Dataset
from practical.grading.asking import ask
from practical.grading.exercise import Arguments
from practical.grading.exercises import EXERCISES
from practical.grading.verdicts import Stopped, judge
from practical.models import Classifier

_PUBLIC_SEED = 2412


def check(exercise: str, answer: Any) -> Callable:
    """Check an answer, say what is right or wrong with it, and return what to go on with.

    The checks call the function with small networks and images that they draw themselves. They are
    the public ones: whoever grades has more, with other numbers.

    Args:
        exercise: Its number, "1.4".
        answer: The function that was asked for.

    Returns:
        `answer`; while it is blank, or raises an error, the package's own function, so that the
        cells below can be run.

    Raises:
        ValueError: If there is no such exercise.
        TypeError: If the answer is not a function.
        AssertionError: If it is not right, where nbgrader executes the notebook.
    """
    asked = EXERCISES.get(str(exercise))
    if asked is None:
        raise ValueError(f"exercise must be one of {', '.join(EXERCISES)}, got {exercise!r}")
    if not callable(answer):
        raise TypeError(
            f"answer must be the function {asked.name} that exercise {asked.id} asks for, got a "
            f"{type(answer).__name__}: check({asked.id!r}, {asked.name})"
        )
    verdict = judge(
        asked,
        lambda given: _call(answer, asked.in_order(given)),
        np.random.default_rng(_PUBLIC_SEED),
    )
    mark = "✔" if verdict.status == "passed" else "…" if verdict.status == "blank" else "✘"
    words = [verdict.message]
    if verdict.status in ("wrong", "raised"):
        words += _globals_read(answer)
    usable = verdict.status in ("passed", "wrong")
    if not usable:
        words.append(f"Until then the cells below use the package's {asked.name}.")
    print(f"{mark} {asked.id} {asked.name}: {' '.join(words)}")
    if "NBGRADER_EXECUTION" in os.environ and verdict.status != "passed":
        raise AssertionError(f"{asked.id} {asked.name}: {verdict.message}")
    return answer if usable else asked.reference


def _call(answer: Callable, given: Arguments) -> Any:
    # An answer that writes into its arguments must not change what the next one gets.
    own = {
        name: value.copy() if isinstance(value, np.ndarray) else value
        for name, value in given.items()
    }
    try:
        return ask(answer, own)
    except NotImplementedError as error:
        raise Stopped("blank", "It is not filled in yet.") from error
    except Exception as error:
        raise Stopped("raised", f"It raised {type(error).__name__}: {error}{_where(error)}.") from (
            error
        )


def _where(error: BaseException) -> str:
    """Return in which line of the notebook an error arose."""
    entries = [
        entry
        for entry in traceback.extract_tb(error.__traceback__)
        if "ipykernel" in entry.filename or entry.filename.startswith("<ipython")
    ]
    if not entries:
        return ""
    return f" (line {entries[-1].lineno} of its cell: {(entries[-1].line or '').strip()})"


def _globals_read(answer: Callable) -> list[str]:
    """Name the notebook's networks and arrays that a function reads in place of its arguments."""
    function = inspect.unwrap(answer)
    if not isinstance(function, FunctionType):
        return []
    data = Classifier | Dataset | np.ndarray | jax.Array
    names = sorted(
        name
        for name in set(_names(function.__code__))
        if isinstance(function.__globals__.get(name), data)
    )
    if not names:
        return []
    listed = ", ".join(f"`{name}`" for name in names)
    return [f"It reads {listed} of the notebook: use what it is given."]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
