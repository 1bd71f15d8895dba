"""What the sandbox has in the place of the package's answers.

The worker's copy of the package has this module's `check`, and its `absent` wherever the package
has something that an exercise asks for. So an answer cannot call, read or copy the package's.
"""

from collections.abc import Callable
from typing import Any, NoReturn

# Exercise -> the answer that `check` was last called with, in a new tuple for each call.
CHECKED: dict[str, tuple[Any]] = {}


class NotInSandboxError(RuntimeError):
    """The package's own function was called where only the student's may be."""


class Absent:
    """Stands in for a function or an object; using it raises `NotInSandboxError`."""

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Say that it is not here."""
        raise self._error()

    def _error(self) -> NotInSandboxError:
        return NotInSandboxError(
            f"{self._name} is not there where answers are checked: an answer has to do without it"
        )

    def __getattr__(self, name: str) -> NoReturn:
        """Say that it is not here, but to whom asks for what no object of ours has."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._error()

    def __getitem__(self, _: Any) -> NoReturn:
        """Say that it is not here."""
        raise self._error()

    def __iter__(self) -> NoReturn:
        """Say that it is not here."""
        raise self._error()


def absent(module: str) -> Callable[[str], Absent]:
    """Return a module's `__getattr__`: any name that is asked of it is absent."""

    def getattribute(name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{module}.{name}")

    return getattribute


def check(exercise: str, answer: Any) -> Any:
    """Note what answers an exercise, and return it."""
    CHECKED[str(exercise)] = (answer,)
    return answer
