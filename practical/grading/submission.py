"""A notebook that was handed in: reading it, whatever it is, and grading it."""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from practical.grading import sandbox
from practical.grading.answers import Cell, answers
from practical.grading.exercises import EXERCISES, QUESTIONS
from practical.grading.session import Session
from practical.grading.staging import given
from practical.grading.verdicts import InfrastructureError, Verdict
from practical.grading.wire import plain_text

_MOST_BYTES = 60_000_000  # of a notebook file: with all its figures ours has 13 million
_MOST_CELLS = 3_000  # ours have 130; an empty cell takes 3 bytes in a file and 300 in memory
_MOST_CELL = 20_000  # characters of a code cell; ours have 2,000
_MOST_CODE = 400_000  # characters of all of them
# Who brings the package's answers along needs one of these; who answers needs none of them.
_WORDS = (
    "__path__", "b64decode", "b85decode", "CHECKED", "exec(", "import_module", "marshal", "pickle",
    "stand_ins", "subprocess", "sys.modules", "sys.path", "zipfile", "zlib",
)  # fmt: skip


class UnreadableError(Exception):
    """What was handed in is no notebook."""


@dataclass(frozen=True)
class Notebook:
    """The cells of what was handed in."""

    sources: list[str]  # of the code cells
    cells: list[Cell]  # all of them

    notes: list[str] = field(default_factory=list)  # of what is left out

    @property
    def part(self) -> str:
        """Which of the practical's notebooks it is, by its exercises: "1", "2", "" for neither."""
        code = "\n".join(self.sources)
        hits = {"1": 0, "2": 0}
        for exercise in EXERCISES.values():
            found = re.search(rf"\bdef {exercise.name}\b|check\(\s*['\"]{exercise.id}['\"]", code)
            hits[exercise.id[0]] += found is not None
        words = "\n".join(cell.text for cell in self.cells if cell.kind != "code")
        known = {cell.question for cell in self.cells}
        for question in QUESTIONS:
            hits[question[0]] += f"answer {question}" in words or question in known
        return max(hits, key=lambda part: hits[part]) if any(hits.values()) else ""

    @property
    def flags(self) -> list[str]:
        """What a person should look at, who may then see nothing wrong with it."""
        code = "\n".join(self.sources)
        return [word for word in _WORDS if word in code] + (["a huge cell"] if self.notes else [])


@dataclass
class Report:
    """What came of grading a notebook."""

    part: str = ""
    verdicts: dict[str, Verdict] = field(default_factory=dict)  # by exercise
    answers: dict[str, str] = field(default_factory=dict)  # in words, by question
    notes: list[str] = field(default_factory=list)  # for the student
    flags: list[str] = field(default_factory=list)  # for the instructor
    unclear: dict[str, str] = field(default_factory=dict)  # why a person has to look at an answer
    other_words: str = ""  # that may be an answer, of a student who did not answer all questions

    @property
    def points(self) -> dict[str, int]:
        """The points of each exercise that could be graded."""
        marks = {one: mark(one, verdict) for one, verdict in self.verdicts.items()}
        return {one: points for one, points in marks.items() if points is not None}


def mark(exercise: str, verdict: Verdict) -> int | None:
    """Return the points; None where the grader failed, which is not a zero."""
    if verdict.status == "infrastructure":
        return None
    return EXERCISES[exercise].points if verdict.status == "passed" else 0


def read(path: Path) -> Notebook:
    """Read a notebook of any version.

    Raises:
        UnreadableError: If it is none.
        InfrastructureError: If this machine cannot read it, whatever it is.
    """
    try:
        if path.is_symlink():
            raise UnreadableError("It is a link, and not a file.")
        if not path.is_file() and path.exists():
            raise UnreadableError("It is not a file.")
        if path.stat().st_size > _MOST_BYTES:
            raise UnreadableError(f"It has more than {_MOST_BYTES:,} bytes.")
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError("It is not a text file, so it is no notebook.") from error
    except OSError as error:
        raise InfrastructureError(f"The file cannot be read: {error.strerror}") from error
    if not content.strip():
        raise UnreadableError("The file is empty.")
    try:
        found = _cells(json.loads(content))
        cells = [_cell(parsed) for parsed in found[:_MOST_CELLS]]
    except Exception as error:  # whatever is in it, it is the file that is wrong
        raise UnreadableError(
            f"It is not a notebook in the form that Jupyter writes ({type(error).__name__})."
        ) from error
    if len(found) > _MOST_CELLS:
        raise UnreadableError(
            f"It has {len(found):,} cells, and at most {_MOST_CELLS:,} are allowed."
        )
    notes, sources = [], [cell.text for cell in cells if cell.kind == "code"]
    for number, code in enumerate(sources):
        if len(code) > _MOST_CELL:
            sources[number] = ""
            notes.append(
                f"Code cell {number + 1} was left out: it has {len(code):,} characters, and at "
                f"most {_MOST_CELL:,} are allowed."
            )
    if (total := sum(map(len, sources))) > _MOST_CODE:
        raise UnreadableError(
            f"It has {total:,} characters of code, and at most {_MOST_CODE:,} are allowed."
        )
    return Notebook(sources, cells, notes)


def seed(secret: str, student: str, exercise: str) -> np.random.Generator:
    """Return the generator of an exercise's cases for a student: known to who knows the secret."""
    digest = hmac.new(secret.encode(), f"{student}\n{exercise}".encode(), hashlib.sha256).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def grade(
    path: Path,
    *,
    student: str,
    secret: str,
    staged: Path,
    level: str = "bwrap",
    slot: int = 0,
    limits: sandbox.Limits | None = None,
) -> Report:
    """Grade a notebook: never an exception of the submission's making.

    Args:
        path: The file.
        student: Who it is of, which decides the cases with the secret.
        secret: The assignment's.
        staged: What `sandbox.stage` wrote into.
        level: Of the sandbox.
        slot: Which of the workers that run at once this is.
        limits: What the worker may use.
    """
    report = Report()
    try:
        notebook = read(path)
    except UnreadableError as error:
        report.notes.append(str(error))
        return report
    except InfrastructureError as error:  # and which of the notebooks it is, nobody knows
        report.verdicts = dict.fromkeys(EXERCISES, Verdict("infrastructure", str(error)))
        return report
    report.part, report.flags = notebook.part, notebook.flags
    report.notes += notebook.notes
    if not report.part:
        report.notes.append("It has none of the practical's exercises.")
        return report
    found = answers(notebook, report.part)
    report.answers, report.unclear, report.other_words = found.words, found.unclear, found.other
    exercises = {one.id: one for one in EXERCISES.values() if one.id[0] == report.part}
    with Session(
        notebook.sources, exercises, staged=staged, level=level, limits=limits, slot=slot,
        given=given(report.part),
    ) as session:  # fmt: skip
        report.verdicts = session.judge(lambda exercise: seed(secret, student, exercise))
        for number, why in session.skipped.items():
            report.notes.append(f"Code cell {number + 1} was left out: {why}.")
    return report


def _cells(parsed: Any) -> list[dict[str, Any]]:
    cells = list(parsed.get("cells", []))
    for sheet in parsed.get("worksheets", []):
        cells += sheet.get("cells", [])
    return cells


def _cell(parsed: dict[str, Any]) -> Cell:
    source = parsed.get("source", parsed.get("input", ""))  # version 3 calls code its input
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    metadata = parsed.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    kind, identity = plain_text(parsed.get("cell_type")), plain_text(parsed.get("id"))
    return Cell(kind, plain_text(text), identity, plain_text(grade_id))
