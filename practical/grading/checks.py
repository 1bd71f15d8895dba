"""The line under an exercise: is this answer right, and if not, what is wrong?"""

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
from practical.grading.asking import advice, ask, is_blank
from practical.grading.exercise import ABSENT, Arguments
from practical.grading.exercises import EXERCISES
from practical.grading.verdicts import Stopped, Verdict, judge
from practical.models import Classifier

_PUBLIC_SEED = 2412


def check(exercise: str, answer: Any) -> Callable:
    """Check an answer, print what is right or wrong with it, and return the function to use.

    The checks call the function with small random networks and images, whose arrays are read-only.
    The grader runs additional checks, with other numbers.

    Args:
        exercise: Its number, "1.4".
        answer: The function that the exercise asks for.

    Returns:
        `answer`. If it returns lists, a function that returns them as arrays. If it is blank or
        raises an error, the package's own function, so that the cells below can be run.

    Raises:
        ValueError: If there is no such exercise.
        TypeError: If the answer is not a function.
        AssertionError: If the answer is wrong, and nbgrader executes the notebook.
    """
    asked = EXERCISES.get(str(exercise))
    if asked is None:
        raise ValueError(f"exercise must be one of {', '.join(EXERCISES)}, got {exercise!r}")
    if not callable(answer):
        raise TypeError(
            f"answer must be the function {asked.name} that exercise {asked.id} asks for, got a "
            f"{type(answer).__name__}: check({asked.id!r}, {asked.name})"
        )
    lists: list[Any] = []
    verdict = judge(
        asked,
        lambda given: _call(answer, asked.in_order(given), lists),
        np.random.default_rng(_PUBLIC_SEED),
    )
    borrowed = _borrowed(answer)
    if answer is asked.reference:  # this cell is run twice, after a blank or failing answer
        verdict = Verdict(
            "blank", "This is the package's function: run the cell with your own function first."
        )
    elif borrowed and verdict.status == "passed":
        verdict = Verdict(
            "wrong",
            f"The numbers are right, but it uses the package's {_listed(borrowed)}, which is not "
            "available to the grader: write the function without it.",
        )
    mark = "✔" if verdict.status == "passed" else "…" if verdict.status == "blank" else "✘"
    words = [verdict.message]
    if verdict.status in ("wrong", "raised"):
        words += _globals_read(answer)
    elif lists:
        words.append("It returns a list; the cells below get it as an array.")
    usable = verdict.status in ("passed", "wrong")
    if verdict.status == "wrong":
        incorrect = "" if borrowed else "(incorrect) "
        words.append(f"The cells below will use your {incorrect}function.")
    if not usable:
        words.append(f"For now, the cells below use the package's {asked.name}.")
    print(f"{mark} {asked.id} {asked.name}: {' '.join(words)}")
    if "NBGRADER_EXECUTION" in os.environ and verdict.status != "passed":
        raise AssertionError(f"{asked.id} {asked.name}: {verdict.message}")
    if not usable:
        return asked.reference
    return _with_arrays(answer) if lists else answer


def _call(answer: Callable, given: Arguments, lists: list[Any]) -> Any:
    """Call an answer, and add its result to `lists` if it is one."""
    # Read-only, as most arrays of the notebook are: JAX's, and NumPy's views of them.
    views = {name: value.view() for name, value in given.items() if isinstance(value, np.ndarray)}
    for view in views.values():
        view.setflags(write=False)
    try:
        result = ask(answer, {**given, **views})
        if isinstance(result, list | tuple):
            lists.append(result)
        return result
    except Exception as error:
        if is_blank(error):
            raise Stopped("blank", "You have not written it yet.") from error
        message = f"{type(error).__name__}: {error}".split("\nSee https://")[0].rstrip(". ")
        words = f"It raised {message}{_where(error)}. {advice(message, given)}"
        raise Stopped("raised", words.rstrip()) from error


def _with_arrays(answer: Callable) -> Callable:
    """Return an answer with its results as arrays: the cells below do arithmetic with them."""

    @functools.wraps(answer)
    def call(*values: Any, **named: Any) -> np.ndarray:
        return np.asarray(answer(*values, **named))

    return call


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
    """Name the notebook's networks and arrays that a function reads besides its arguments."""
    data = Classifier | Dataset | np.ndarray | jax.Array
    names = {name for name, value in _mentioned(answer) if isinstance(value, data)}
    words = f"It reads {_listed(names)} of the notebook: use the function's arguments instead."
    return [words] if names else []


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
