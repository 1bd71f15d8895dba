"""The exercises: a file for each, which is all that grading it needs.

A file defines `EXERCISE`, and its name is in no list: it is found.
"""

from importlib import import_module
from pkgutil import iter_modules

from practical.grading.exercise import Exercise
from practical.grading.questions import QUESTIONS

__all__ = ["EXERCISES", "QUESTIONS"]


def _collect() -> dict[str, Exercise]:
    names = [module.name for module in iter_modules(__path__) if not module.name.startswith("_")]
    found = [import_module(f"{__name__}.{name}").EXERCISE for name in names]
    found.sort(key=lambda one: [int(part) for part in one.id.split(".")])
    exercises = {one.id: one for one in found}
    if len(exercises) < len(found) or len({one.name for one in found}) < len(found):
        raise ValueError(
            "exercises must have an id and a name of their own, got "
            f"{[(one.id, one.name) for one in found]}"
        )
    return exercises


EXERCISES: dict[str, Exercise] = _collect()  # by id, in the notebooks' order
