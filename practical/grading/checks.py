"""The line under an exercise: is this answer right, and if not, what is the matter?"""

import dis
import functools
import inspect
import os
import traceback
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import jax
import numpy as np

from practical.data import Dataset
from practical.grading.asking import ask, is_blank
from practical.grading.exercise import ABSENT, Arguments
from practical.grading.exercises import EXERCISES
from practical.grading.verdicts import Stopped, Verdict, judge
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
    written: set[str] = set()
    verdict = judge(
        asked,
        lambda given: _call(answer, asked.in_order(given), written),
        np.random.default_rng(_PUBLIC_SEED),
    )
    borrowed = _borrowed(answer)
    if borrowed and verdict.status == "passed":
        verdict = Verdict(
            "wrong",
            f"The numbers are right, but it uses the package's {_listed(borrowed)}, which is not "
            "there when answers are graded: write it without.",
        )
    mark = "✔" if verdict.status == "passed" else "…" if verdict.status == "blank" else "✘"
    words = [verdict.message]
    if verdict.status in ("wrong", "raised"):
        words += _globals_read(answer)
    elif written:
        words.append(
            f"But it writes into {_listed(written)}, which the cells below use again: work on a "
            "copy."
        )
    usable = verdict.status in ("passed", "wrong")
    if verdict.status == "wrong":
        words.append("The cells below use it as it is.")
    if not usable:
        words.append(f"Until then the cells below use the package's {asked.name}.")
    print(f"{mark} {asked.id} {asked.name}: {' '.join(words)}")
    if "NBGRADER_EXECUTION" in os.environ and verdict.status != "passed":
        raise AssertionError(f"{asked.id} {asked.name}: {verdict.message}")
    return answer if usable else asked.reference


def _call(answer: Callable, given: Arguments, written: set[str]) -> Any:
    """Call an answer, and add the names of the arguments that it has written into to `written`."""
    # An answer that writes into its arguments must not change what the next one gets.
    arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    own = {**given, **{name: value.copy() for name, value in arrays.items()}}
    try:
        found = ask(answer, own)
        written |= {
            name for name, value in arrays.items()
            if not np.array_equal(own[name], value, equal_nan=value.dtype.kind == "f")
        }  # fmt: skip
        return found
    except Exception as error:
        if is_blank(error):
            raise Stopped("blank", "It is not filled in yet.") from error
        said = f"{type(error).__name__}: {error}".rstrip(".")
        raise Stopped("raised", f"It raised {said}{_where(error)}.") from error


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
    data = Classifier | Dataset | np.ndarray | jax.Array
    names = {name for name, value in _mentioned(answer) if isinstance(value, data)}
    return [f"It reads {_listed(names)} of the notebook: use what it is given."] if names else []


def _borrowed(answer: Callable) -> set[str]:
    """Name what a function, or one of the notebook that it calls, has of the package's answers."""
    answer = _inmost(answer)
    found, seen, todo = set(), set(), [(getattr(answer, "__name__", "function"), answer)]
    while todo:
        name, value = todo.pop()
        where = value.__name__ if isinstance(value, ModuleType) else _module(value)
        if where.startswith(("practical.grading.exercises", *(f"practical.{a}" for a in ABSENT))):
            found.add(name)
        elif callable(value) and id(value) not in seen and not where.startswith("practical"):
            seen.add(id(value))
            todo += _mentioned(value)
            names = {name for code in _codes(value) for name in code.co_names}
            if "practical" in names:  # `practical.attribution`
                found |= names.intersection(ABSENT)
    return found


def _mentioned(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the notebook's names that a function reads, and what each of them is.

    The features in `model.features` are the model's, whatever the notebook calls so.
    """
    names = {
        str(step.argval)
        for code in _codes(function)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for name in sorted(names):
        yield name, _inmost(function).__globals__.get(name)


def _inmost(function: Any) -> Any:
    """Return the function in a decorator, or with arguments filled in."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.unwrap(function) if callable(function) else function


def _module(value: Any) -> str:
    return str(getattr(value, "__module__", None) or "")


def _listed(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _codes(function: Any) -> Iterator[CodeType]:
    """Yield a function's code, and that of the functions inside of it."""
    function = _inmost(function)
    todo = [function.__code__] if isinstance(function, FunctionType) else []
    while todo:
        code = todo.pop()
        yield code
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
