"""What a class's grading becomes: tables, a page for each student, and a sheet of their answers."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2

from practical._files import atomic_path
from practical.grading.classroom import Graded
from practical.grading.exercise import Exercise
from practical.grading.exercises import EXERCISES, QUESTIONS
from practical.grading.handed_in import Student
from practical.grading.sheet import ANSWERED, SHEET, Given, read_sheet, write_csv
from practical.grading.submission import Report, mark
from practical.grading.verdicts import Verdict

_GRADER_FAILED = "The grader failed here; this will be graded again."
_MISSING = Verdict("missing", "There is no notebook with it.")


def write(graded: list[Graded], out: Path) -> dict[str, Any]:
    """Write grades.csv, statuses.csv, answers.csv and feedback/STUDENT.html; return the totals.

    Points that somebody gave in answers.csv are kept and counted. Where the answer has changed
    since, or its place in the notebook is unclear, the status says so until somebody has looked.
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
        status = _status(one, verdicts, words, by_hand)
        earned = [value for value in marks.values() if value is not None]
        earned += [float(points.points) for points in by_hand.values() if points.points]
        about = {"student": one.student.id, "name": one.student.name}
        about["late"] = "late" if one.student.late else ""
        rows.append(
            about
            | {e: "" if points is None else points for e, points in marks.items()}
            | {q: points.points for q, points in by_hand.items()}
            | {"total": f"{sum(earned):g}", "status": status}
        )
        flags = sorted({flag for report in one.reports for flag in report.flags})
        look = {"look at": " ".join(flags)}
        statuses.append(about | {e: v.status for e, v in verdicts.items()} | look)
        answers += [
            {"question": q, "student": one.student.id, "answer": words[q]}
            | {"points": by_hand[q].points, "comment": by_hand[q].comment}
            | {ANSWERED: before[q]}
            for q in QUESTIONS
        ]
        text = page.render(
            student=one.student, exercises=EXERCISES, questions=QUESTIONS, verdicts=verdicts,
            marks=marks, words=words, by_hand=by_hand, total=f"{sum(earned):g}",
            most=sum(e.points for e in [*EXERCISES.values(), *QUESTIONS.values()]),
            unclear={q: why for report in one.reports for q, why in report.unclear.items()},
            other_words=[report.other_words for report in one.reports if report.other_words],
            notes=[note for report in one.reports for note in report.notes],
            grader_failed=_GRADER_FAILED, problems=_problems(one.student),
        )  # fmt: skip
        with atomic_path(feedback / f"{file_name(one.student.id)}.html") as temporary:
            temporary.write_text(text, encoding="utf-8")
    # All answers to one question together: they are graded side by side.
    answers.sort(key=lambda row: (row["question"], row["student"]))
    write_csv(out / "grades.csv", rows)
    write_csv(out / "statuses.csv", statuses)
    write_csv(out / SHEET, answers)
    counted: dict[str, int] = {}
    for row in statuses:
        for exercise in EXERCISES:
            counted[row[exercise]] = counted.get(row[exercise], 0) + 1
    return counted


def _status(
    one: Graded,
    verdicts: dict[str, Verdict],
    words: dict[str, str],
    by_hand: dict[str, Given],
) -> str:
    """Return what is left to do for a student, or "complete"."""
    unclear = {q: why for report in one.reports for q, why in report.unclear.items()}
    ungraded = [q for q in QUESTIONS if not by_hand[q].points]
    changed = [q for q in QUESTIONS if by_hand[q].other_than(words[q])]
    to_do = {
        "not graded": [e for e, v in verdicts.items() if v.status == "infrastructure"],
        "answers to grade": [q for q in ungraded if words[q]],
        "answers that changed since they were graded": changed,
        "answers whose place is unclear": [f"{q} ({unclear[q]})" for q in ungraded if q in unclear],
    }
    told = [f"{what}: {' '.join(which)}" for what, which in to_do.items() if which]
    for report in one.reports:  # until somebody gave points for the answers that seem to be missing
        if report.other_words and any(q in report.answers and not words[q] for q in ungraded):
            told.append(f"words outside the answers' cells: {report.other_words[:300]!r}")
    told += one.student.problems
    told += [" ".join(report.notes) for report in one.reports if not report.verdicts]
    return "; ".join(told) or "complete"


def merged(reports: Iterable[Report]) -> tuple[dict[str, Verdict], dict[str, str]]:
    """Return a student's verdicts and answers of both notebooks, with those that are missing."""
    verdicts, words = dict.fromkeys(EXERCISES, _MISSING), dict.fromkeys(QUESTIONS, "")
    for report in reports:
        verdicts |= report.verdicts
        words |= report.answers
    return verdicts, words


def _problems(student: Student) -> list[str]:
    nothing = "" if student.submissions else "Nothing could be graded: "
    return [f"{nothing}{problem}." for problem in student.problems]


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
    notes += _problems(graded.student)
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
{% for problem in problems %}<p>{{ problem }}</p>{% endfor %}
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
{% if id in unclear %}<p>This answer is read by a teacher, because {{ unclear[id] }}.</p>{% endif %}
{% if by_hand[id].comment %}<p>{{ by_hand[id].comment }}</p>{% endif %}
{% endfor %}
{% for text in other_words %}
<p>These words are in no answer's cell. A teacher reads them and decides what they belong to.</p>
<blockquote>{{ text }}</blockquote>
{% endfor %}
</html>
"""
