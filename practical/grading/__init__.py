"""Exercises that check themselves, and grading that does not trust what it grades.

    exercises/  ──▶  verdicts  ◀──  checks      in the student's notebook
                        ▲
    submission  ──▶  session  ──wire──▶  worker   in a sandbox

`check` is what students call. Everything else is for whoever grades.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time `__getattr__` below: pytest's plugin needs no JAX
    from practical.grading.checks import check

__all__ = ["check"]


def __getattr__(name: str):
    if name == "check":
        from practical.grading.checks import check

        return check
    raise AttributeError(f"module 'practical.grading' has no attribute {name!r}")
