"""answers.csv, in which a person gives points: written for spreadsheets and read from them."""

import csv
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

from practical._files import atomic_path
from practical.grading.exercises import QUESTIONS

SHEET = "answers.csv"
ANSWERED = "points are for"  # column: the answer that was graded, if the present one differs
NO_ANSWER = "(no answer)"
csv.field_size_limit(10_000_000)  # an answer may be longer than the csv module expects
_COLUMNS = ("question", "student", "answer", "points", "comment")
# A spreadsheet takes these for a formula wherever it begins a cell; "- item" is a list. A text that
# begins with quotes gets one more, so that two different texts stay different.
_FORMULA = re.compile(r"(^|[\r\n;\t])(?='*(?:[=+@\t\r]|-\S))")
_QUOTED = re.compile(r"(^|[\r\n;\t])'(?='*(?:[=+@\t\r]|-\S))")
_WAY_OUT = "Save it as CSV UTF-8, or remove it together with the points in it"


class Given(NamedTuple):
    """What a person gave for an answer."""

    points: str = ""
    comment: str = ""
    answer: str = ""  # that they gave it for

    def other_than(self, words: str) -> str:
        """Return the answer that was graded if it differs from this one, else "".

        Differences that spreadsheets make do not count: line breaks, and in a sheet that was saved
        in a Windows encoding the characters that it does not have.
        """
        graded, now = self.answer.split(), words.split()
        saved = " ".join(now).encode("cp1252", "replace").decode("cp1252").split()
        return "" if not self.points or graded in (now, saved) else self.answer or NO_ANSWER


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table in which no text is a formula to a spreadsheet."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["student"])
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)


def read_sheet(path: Path, students: set[str]) -> dict[tuple[str, str], Given]:
    """Return the points and comments that were given by hand, by student and question.

    Reads what spreadsheets save: commas, semicolons or tabs; decimal commas; UTF-8, UTF-16 or
    Windows-1252; several sheets below each other. Of two rows of one answer the one with points
    counts.

    Args:
        path: The sheet, as `write_csv` or a spreadsheet wrote it; it need not exist.
        students: The ids of those who are graded.

    Raises:
        ValueError: If it cannot be read; if points are not a number from 0 to the question's; if
            points or a comment belong to nobody who is graded; or if two rows of one answer
            disagree. Nothing that was given by hand is dropped.
    """
    if not path.exists():
        return {}
    rows: dict[tuple[str, str], list[tuple[int, Given]]] = {}
    for number, row in _rows(path):
        where = f"row {number} of {path}"
        question, student = row["question"].strip(), _plain(row["student"])
        points = _points(row["points"], question, where)
        comment = _plain(row["comment"])
        if question not in QUESTIONS and (points or comment.strip()):
            raise ValueError(
                f"question must be one of {', '.join(QUESTIONS)}, got {question!r} in {where}"
            )
        if student not in students and (points or comment.strip()):
            raise ValueError(
                f"{where} is about the student {student!r}, who is not among those that are "
                "graded: grade the whole class, or into another folder (and mind that spreadsheets "
                "turn 007 into 7)"
            )
        graded = row.get(ANSWERED) or row["answer"]
        graded = "" if graded.strip() == NO_ANSWER else _plain(graded)
        given = Given(points, comment, graded)
        rows.setdefault((student, question), []).append((number, given))
    merged = {key: _merged([given for _, given in same]) for key, same in rows.items()}
    if different := [key for key, given in merged.items() if given is None]:
        listed = "; ".join(
            f"rows {' and '.join(str(number) for number, _ in rows[student, question])} "
            f"({question}, {student})"
            for student, question in different[:20]
        )
        raise ValueError(
            f"{path} has more than one row for some answers, with different points or comments: "
            f"{listed}. Leave the right one of each"
        )
    return {key: given for key, given in merged.items() if given is not None}


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows by column, each with its number in the sheet; no headings, no empty rows."""
    text = _decoded(path)
    heading, _, rest = text.partition("\n")
    if named := re.fullmatch(r"\"?sep=(.)\"?[,;\t]*\r?", heading):  # Excel's, for other countries
        separator, text = named[1], rest
    else:  # a spreadsheet's depends on its country
        separator = max(",;\t", key=heading.count)
    try:
        found = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise ValueError(f"{path} is not a table ({error}). {_WAY_OUT}") from error
    columns = [name.strip() for name in found[0]] if found else []
    if missing := [name for name in _COLUMNS if columns.count(name) != 1]:
        raise ValueError(
            f"{path} must have each of the columns {', '.join(_COLUMNS)} once, got "
            f"{columns.count(missing[0])} of {missing[0]}. {_WAY_OUT}"
        )
    rows = []
    for number, cells in enumerate(found[1:], start=2):
        row = [cell.strip() for cell in cells]
        if not any(row) or row[0].startswith("sep=") or row == columns[: len(row)]:
            continue  # an empty row, or a second sheet's heading
        heading_of_another = {"question", "student", "points"} <= set(row)
        if heading_of_another or not len(_COLUMNS) <= len(row) <= len(columns):
            raise ValueError(
                f"row {number} of {path} must have the columns of the first row, got {len(row)} "
                f"cells, not {len(columns)}: {separator.join(row)[:80]!r}. Sheets that are pasted "
                "together need the same columns and separator, and a number with a comma needs "
                "quotes"
            )
        cells += [""] * (len(columns) - len(cells))
        rows.append((number, dict(zip(columns, cells, strict=True))))
    return rows


def _decoded(path: Path) -> str:
    """Return a sheet's text; what spreadsheets write is told apart by its first bytes."""
    content = path.read_bytes()
    encodings = ["utf-8-sig", "cp1252"]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ValueError(
        f"{path} is not a text in UTF-8, UTF-16 or Windows-1252, or it is a spreadsheet's own file "
        f"(xlsx, ods) by another name. {_WAY_OUT}"
    )


def _points(cell: str, question: str, where: str) -> str:
    """Return points as Python writes them, "" for none."""
    value = cell.strip()
    if not value:
        return ""
    most = QUESTIONS[question].points if question in QUESTIONS else 100
    try:
        number = float(value.replace(",", ".")) if re.fullmatch(r"[\d.,]+", value) else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise ValueError(
            f"points must be a number from 0 to {most} for question {question}, got {value!r} in "
            f"{where}"
        )
    return value.replace(",", ".")


def _merged(rows: list[Given]) -> Given | None:
    """Return what the rows of one answer say together, None where they disagree."""
    graded = [row for row in rows if row.points]
    comments = {" ".join(row.comment.split()): row.comment for row in rows if row.comment.strip()}
    values = {float(row.points) for row in graded}
    answers = {" ".join(row.answer.split()) for row in graded}
    if len(comments) > 1 or len(values) > 1 or len(answers) > 1:
        return None
    first = graded[0] if graded else rows[0]
    return first._replace(comment="".join(comments.values()))


def _harmless(value: Any) -> Any:
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


def _plain(value: str) -> str:
    """Return the text of which `_harmless` made this."""
    return _QUOTED.sub(r"\1", value)
