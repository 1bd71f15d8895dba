"""What an exercise is: its points, its checks, and the mistakes that it knows by name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# What the package does not have where answers are graded: the answers, what is made of them, and
# what costs time and is graded by nobody.
ABSENT = (
    "attribution", "bias", "evaluation", "explainfix", "metrics", "plotting", "training", "widgets",
)  # fmt: skip

Arguments = Mapping[str, Any]
Call = Callable[[Arguments], Any]  # asks the answer: what it returns for these arguments


@dataclass(frozen=True)
class Mistake:
    """A known mistake: what an answer with it returns, and what to say about it."""

    name: str  # completes "This looks like ..."
    hint: str  # the way to the right answer, without the answer
    answer: Callable[..., Any]  # of a case's arguments


@dataclass(frozen=True)
class Property:
    """What holds for right answers, whatever the arguments."""

    name: str  # "completeness"
    hint: str
    holds: Callable[[Call, np.random.Generator], bool]


@dataclass(frozen=True)
class Exercise:
    """One exercise: all that grading it needs, in one place.

    `cases` draws the arguments of some calls from a generator: the notebook's checks draw from a
    generator that everybody has, the grader from one that depends on a secret and on who is graded.
    So nothing can be stored beforehand, and no answer is right by heart.
    """

    id: str  # "1.4": the notebook's number, and the exercise's in it
    name: str  # of the function that the student writes
    title: str
    points: int
    difficulty: int  # 1 to 3
    minutes: int
    cases: Callable[[np.random.Generator], Sequence[Arguments]]
    reference: Callable[..., Any]  # also what the notebook goes on with while the exercise is blank
    hint: str  # for a wrong answer that is none of the mistakes
    mistakes: tuple[Mistake, ...] = ()
    properties: tuple[Property, ...] = ()
    hidden: tuple[Property, ...] = ()  # the grader's alone
    # An answer may be off by this share of the largest value of the right one; float32 and a GPU's
    # convolutions are off by a tenth of it.
    tolerance: float = 0.01

    def in_order(self, arguments: Arguments) -> dict[str, Any]:
        """Return arguments in the order in which the answer takes them, the reference's."""
        names = inspect.signature(self.reference).parameters
        return {name: arguments[name] for name in names if name in arguments}


@dataclass(frozen=True)
class Question:
    """A question that is answered in words, and graded by a person.

    What a full answer says is in the notebook's source, as its solution.
    """

    id: str  # "1.A"
    title: str
    points: int
