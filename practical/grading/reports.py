"""What a class's grading becomes: tables, a page for each student, and a sheet of their answers."""

import csv
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from practical._files import atomic_path
from practical.grading.classroom import Graded
from practical.grading.exercise import Exercise
from practical.grading.exercises import EXERCISES, QUESTIONS
from practical.grading.handed_in import Student
from practical.grading.submission import Report, mark
from practical.grading.verdicts import Verdict

SHEET = "answers.csv"
csv.field_size_limit(10_000_000)  # an answer may be longer than the csv module expects
_GRADER_FAILED = "The grader failed here; this will be graded again."
# A list's dash is none.
_FORMULA = re.compile(r"(^|[\r\n;\t])(?=[=+@\t\r]|-\S)")
_NO_FORMULA = re.compile(r"(^|[\r\n;\t])'(?=[=+@\t\r]|-\S)")
_COLUMNS = ("question", "student", "answer", "points", "comment")
_FOR_ANOTHER = "points are for"  # a column, of the answer that was graded, if it is not this one
_MISSING = Verdict("missing", "There is no notebook with it.")
_NO_ANSWER = "(no answer)"


class Given(NamedTuple):
    """What a person gave for an answer."""

    points: str = ""
    comment: str = ""
    answer: str = ""  # that they gave it for

    def other_than(self, words: str) -> str:
        """Return the answer that was graded if it is not this one, up to what spreadsheets do."""
        graded, now = (_plain(text).split() for text in (self.answer, words))
        return "" if not self.points or graded == now else self.answer or _NO_ANSWER


def write(graded: list[Graded], out: Path) -> dict[str, Any]:
    """Write grades.csv, statuses.csv, answers.csv and feedback/STUDENT.html; return the totals.

    Points that somebody gave in answers.csv are kept, and counted; where the answer is another one
    by now, that is said until somebody looked.
    """
    given = read_sheet(out / SHEET, {one.student.id for one in graded})
    rows, statuses, answers = [], [], []
    feedback = out / "feedback"
    feedback.mkdir(parents=True, exist_ok=True)
    page = _page()
    for one in graded:
        verdicts, words = merged(one.reports)
        marks = {exercise: mark(exercise, verdict) for exercise, verdict in verdicts.items()}
        by_hand = {q: given.get((one.student.id, q), Given()) for q in QUESTIONS}
        before = {q: points.other_than(words[q]) for q, points in by_hand.items()}
        earned = [value for value in marks.values() if value is not None]
        earned += [float(points.points) for points in by_hand.values() if points.points]
        to_do = {
            "not graded": [e for e, v in verdicts.items() if v.status == "infrastructure"],
            "answers to grade": [q for q in QUESTIONS if words[q] and not by_hand[q].points],
            "answers that changed since they were graded": [q for q in QUESTIONS if before[q]],
        }
        told = [f"{what}: {' '.join(which)}" for what, which in to_do.items() if which]
        told += filter(None, [one.student.without_notebook])
        told += [" ".join(report.notes) for report in one.reports if not report.verdicts]
        about = {"student": one.student.id, "name": one.student.name}
        about["late"] = "late" if one.student.late else ""
        rows.append(
            about
            | {e: "" if points is None else points for e, points in marks.items()}
            | {q: points.points for q, points in by_hand.items()}
            | {"total": f"{sum(earned):g}", "status": "; ".join(told) or "complete"}
        )
        flags = sorted({flag for report in one.reports for flag in report.flags})
        look = {"look at": " ".join(flags)}
        statuses.append(about | {e: v.status for e, v in verdicts.items()} | look)
        answers += [
            {"question": q, "student": one.student.id, "answer": words[q]}
            | {"points": by_hand[q].points, "comment": by_hand[q].comment}
            | {_FOR_ANOTHER: before[q]}
            for q in QUESTIONS
        ]
        text = page.render(
            student=one.student, exercises=EXERCISES, questions=QUESTIONS, verdicts=verdicts,
            marks=marks, words=words, by_hand=by_hand, total=f"{sum(earned):g}",
            most=sum(e.points for e in [*EXERCISES.values(), *QUESTIONS.values()]),
            notes=[note for report in one.reports for note in report.notes],
            grader_failed=_GRADER_FAILED, nothing=_nothing(one.student),
        )  # fmt: skip
        with atomic_path(feedback / f"{file_name(one.student.id)}.html") as temporary:
            temporary.write_text(text, encoding="utf-8")
    # All answers to one question together: they are graded side by side.
    answers.sort(key=lambda row: (row["question"], row["student"]))
    _write_csv(out / "grades.csv", rows)
    _write_csv(out / "statuses.csv", statuses)
    _write_csv(out / SHEET, answers)
    counted: dict[str, int] = {}
    for row in statuses:
        for exercise in EXERCISES:
            counted[row[exercise]] = counted.get(row[exercise], 0) + 1
    return counted


def merged(reports: Iterable[Report]) -> tuple[dict[str, Verdict], dict[str, str]]:
    """Return a student's verdicts and answers of both notebooks, with those that are missing."""
    verdicts, words = dict.fromkeys(EXERCISES, _MISSING), dict.fromkeys(QUESTIONS, "")
    for report in reports:
        verdicts |= report.verdicts
        words |= report.answers
    return verdicts, words


def _nothing(student: Student) -> str:
    why = student.without_notebook
    return why and f"Nothing could be graded: {why}."


def gradescope(graded: Graded) -> dict[str, Any]:
    """Return a student's results as Gradescope's autograder wants them (results.json).

    Without a score of its own a test counts neither way, so the whole has one, whatever came.
    """
    verdicts, _ = merged(graded.reports)
    # Only what was handed in here: Gradescope has an assignment for each notebook.
    parts = {report.part for report in graded.reports}
    shown = {e: v for e, v in verdicts.items() if e[0] in parts or v.status == "infrastructure"}
    marks = {e: mark(e, verdict) for e, verdict in shown.items()}
    notes = [note for report in graded.reports for note in report.notes]
    notes += filter(None, [_nothing(graded.student)])
    if failed := [e for e, points in marks.items() if points is None]:
        notes.append(
            f"The grader failed at {', '.join(failed)}: the score is of the rest alone, and is not "
            "the last word. Please tell the course's staff, who can have it graded again."
        )
    return {
        "score": sum(points for points in marks.values() if points is not None),
        "tests": [_gradescope_test(EXERCISES[e], verdict) for e, verdict in shown.items()],
        "output": "\n".join(notes),
        "visibility": "visible",
    }


def _gradescope_test(exercise: Exercise, verdict: Verdict) -> dict[str, Any]:
    points = mark(exercise.id, verdict)
    about = {"number": exercise.id, "name": f"{exercise.id} {exercise.name}"}
    about |= {"max_score": exercise.points}
    if points is None:
        return about | {"output": _GRADER_FAILED}
    status = "passed" if verdict.status == "passed" else "failed"
    return about | {
        "score": points, "status": status, "output": f"{verdict.status}: {verdict.message}",
    }  # fmt: skip


def write_gradescope(graded: Graded, path: Path) -> None:
    """Write a student's results.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(gradescope(graded), indent=1))


def read_sheet(path: Path, students: set[str]) -> dict[tuple[str, str], Given]:
    """Return the points and comments that were given by hand, by student and question.

    Args:
        path: The sheet, as we wrote it or as a spreadsheet did.
        students: Who is being graded.

    Raises:
        ValueError: If it is not our sheet, or points are no number, more than the question has, or
            of nobody: what was given by hand is never dropped.
    """
    if not path.exists():
        return {}
    given = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        heading = file.readline()
        file.seek(0)
        separator = max(",;\t", key=heading.count)  # a spreadsheet's depends on its country
        reader = csv.DictReader(file, delimiter=separator)
        if missing := set(_COLUMNS) - set(reader.fieldnames or ()):
            raise ValueError(
                f"{path} must have the columns {', '.join(_COLUMNS)}, and {', '.join(missing)} "
                "cannot be found: save it as CSV (UTF-8), or remove it, and your points with it"
            )
        for number, row in enumerate(reader, start=2):
            value, question = (row.get("points") or "").strip(), row.get("question") or ""
            if value:
                most = QUESTIONS[question].points if question in QUESTIONS else 0
                try:
                    fits = 0 <= float(value) <= most
                except ValueError:
                    fits = False
                if not fits:
                    raise ValueError(
                        f"points must be a number from 0 to {most} for question {question}, got "
                        f"{value!r} in row {number} of {path}"
                    )
            key = _plain(row.get("student") or ""), question
            if key[0] not in students and (value or row.get("comment")):
                raise ValueError(
                    f"row {number} of {path} is about the student {key[0]!r}, who is not among "
                    "those that are graded: grade the whole class, or into another folder (and "
                    "mind that spreadsheets turn 007 into 7)"
                )
            graded = row.get(_FOR_ANOTHER) or row.get("answer") or ""
            graded = "" if graded.strip() == _NO_ANSWER else _plain(graded)
            given[key] = Given(value, _plain(row.get("comment") or ""), graded)
    return given


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["student"])
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)


def _harmless(value: Any) -> Any:
    """Return a text that is no formula to a spreadsheet, wherever it takes a cell to begin."""
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


def _plain(value: str) -> str:
    return _NO_FORMULA.sub(r"\1", value)


def file_name(student: str) -> str:
    """Return a name for a student's page that stays in its folder and is nobody else's."""
    name = re.sub(r"[^\w.@-]", "_", student).lstrip(".")[:80]
    if name == student:
        return name
    return f"{name}-{hashlib.sha256(student.encode()).hexdigest()[:8]}"


def _page() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_FEEDBACK)


_FEEDBACK = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Feedback for {{ student.name }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto }
body { padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { padding: .4rem .6rem; border-bottom: 1px solid #ddd }
td, th { text-align: left; vertical-align: top }
.passed { color: #176b2c } .wrong, .raised, .timed, .crashed, .refused { color: #a3231d }
.blank, .missing { color: #666 } .infrastructure { color: #8a5a00 }
.points { white-space: nowrap; text-align: right }
blockquote { border-left: 3px solid #ccc; margin-left: 0; padding-left: 1rem }
blockquote { white-space: pre-wrap }
</style>
<h1>{{ student.name }}: {{ total }} of {{ most }} points</h1>
{% if student.late %}<p>Handed in late.</p>{% endif %}
{% if nothing %}<p>{{ nothing }}</p>{% endif %}
{% for note in notes %}<p>{{ note }}</p>{% endfor %}
<h2>Exercises</h2>
<table>
<tr><th>Exercise<th>Result<th>What was found<th class="points">Points
{% for id, exercise in exercises.items() %}{% set verdict = verdicts[id] %}
<tr><td>{{ id }} {{ exercise.title }}
<td class="{{ verdict.status.split()[0] }}">{{ verdict.status }}
<td>{{ grader_failed if verdict.status == "infrastructure" else verdict.message }}
<td class="points">{{ "–" if marks[id] is none else marks[id] }} / {{ exercise.points }}
{% endfor %}
</table>
<h2>Answers in words</h2>
{% for id, question in questions.items() %}
<h3>{{ id }} {{ question.title }}: {{ by_hand[id].points or "–" }} / {{ question.points }}</h3>
<blockquote>{{ words[id] or "No answer." }}</blockquote>
{% if by_hand[id].comment %}<p>{{ by_hand[id].comment }}</p>{% endif %}
{% endfor %}
</html>
"""
