"""Answers in words are found wherever a student put them, or a person is told to look."""

import json
import re

import pytest

from practical.grading import reports
from practical.grading.classroom import Graded
from practical.grading.exercises import QUESTIONS
from practical.grading.handed_in import Student, Submission
from practical.grading.submission import Report, answers, read
from tests.conftest import ROOT

WORDS = "The square may itself be seen as an object."
MARK = "<!-- answer 1.A -->\n"
SOURCE = json.loads((ROOT / "ExplanationMethods.ipynb").read_text())
PLACE = next(i for i, c in enumerate(SOURCE["cells"]) if "answer 1.A" in "".join(c["source"]))


def new(text, kind="markdown"):
    return {"cell_type": kind, "id": "n", "metadata": {}, "source": [text]}


def change(**changes):
    return lambda cells: cells[PLACE].update(changes)


def typed(text):
    """Write into the answer's cell, where it asks to."""
    return lambda cells: cells[PLACE].update(
        source="".join(cells[PLACE]["source"]).replace("YOUR ANSWER HERE", text)
    )


def insert(offset, *cells_to_insert):
    def changed(cells):
        cells[PLACE + offset : PLACE + offset] = cells_to_insert

    return changed


def both(*changes):
    def changed(cells):
        for one in changes:
            one(cells)

    return changed


def move(cells):
    typed(WORDS)(cells)
    cells.append(cells.pop(PLACE))


def in_the_question(cells):
    cells[PLACE - 1]["source"] = ["".join(cells[PLACE - 1]["source"]) + "\n\n" + WORDS]


def merged_with_the_next(cells):
    cells[PLACE]["source"] = [MARK, WORDS, "\n\n", *cells.pop(PLACE + 1)["source"]]


def duplicated(cells):
    cells.insert(PLACE, json.loads(json.dumps(cells[PLACE])))
    typed(WORDS)(cells)


def without_ids(cells):
    """Save in a program that writes neither ids nor metadata."""
    for cell in cells:
        cell.pop("id")
        cell["metadata"] = {}
    cells[PLACE]["source"] = [WORDS]


CERTAIN = {
    "where it belongs": typed(WORDS),
    "over the whole cell": change(source=[WORDS]),
    "over it, without metadata": change(source=[WORDS], metadata={}),
    "over it, with another id": change(source=[WORDS], id="other"),
    "in a raw cell": change(cell_type="raw", source=[MARK, WORDS]),
    "in a code cell": change(cell_type="code", source=[MARK, WORDS]),
    "above the comment": change(source=[WORDS + "\n", MARK]),
    "inside the comment": change(source=["<!-- answer 1.A ", WORDS, " -->"]),
    "under a comment that was changed": change(source=["<!-- answer 1.F -->\n", WORDS]),
    "under a comment in lower case": change(source=["<!-- Answer 1.a -->\n", WORDS], metadata={}),
    "in a cell that was moved": move,
    "in a cell that was duplicated": duplicated,
}
UNCLEAR = {
    "in a new cell below": insert(1, new(WORDS)),
    "in a new code cell below": insert(1, new("# " + WORDS, "code")),
    "in a new cell above": insert(0, new(WORDS)),
    "in two parts": both(typed("First."), insert(1, new(WORDS))),
    "in two cells with the comment": both(typed("First."), insert(1, new(MARK + WORDS))),
    "below a blank cell": insert(1, new(""), new(WORDS)),
    "in the question's cell": in_the_question,
    "in a cell without ids": without_ids,
    "far away, by its name": lambda cells: cells.append(new(f"Answer to 1.A: {WORDS}")),
    "in a comment in code, by its name": lambda cells: cells.append(new(f"# 1.A: {WORDS}", "code")),
    "in another answer's cell": lambda cells: cells.append(new(f"<!-- answer 1.B -->1.A: {WORDS}")),
    "under the comment of another": change(source=["<!-- answer 1.B -->", WORDS]),
}


def found(tmp_path, changed):
    notebook = json.loads(json.dumps(SOURCE))
    changed(notebook["cells"])
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(notebook))
    return answers(read(path), read(path).part)


def report(found, out):
    """Return the status in grades.csv, the answers in answers.csv, and the student's page."""
    written = Report("1", {}, found.words, unclear=found.unclear, other_words=found.other)
    student = Student("ann", "ann", [Submission(ROOT)])
    reports.write([Graded(student, [written])], out)
    return [(out / name).read_text() for name in ("grades.csv", "answers.csv", "feedback/ann.html")]


@pytest.mark.parametrize("where", CERTAIN)
def test_an_answer_is_found(tmp_path, where):
    result = found(tmp_path, CERTAIN[where])
    assert WORDS in result["1.A"]
    assert len(result["1.A"]) < len(WORDS) + 5
    assert {q: text for q, text in result.words.items() if q != "1.A" and text} == {}
    assert (result.unclear, result.other) == ({}, "")


@pytest.mark.parametrize("where", UNCLEAR)
def test_an_answer_whose_place_is_unclear_is_shown_to_a_person(tmp_path, where):
    result = found(tmp_path, UNCLEAR[where])
    assert WORDS in result["1.A"]
    assert result.unclear["1.A"]
    assert not result.other
    grades, sheet, page = report(result, tmp_path)
    assert "answers whose place is unclear: 1.A (" in grades
    assert WORDS in sheet
    assert WORDS in page
    assert "This answer is read by a teacher, because" in page


def test_words_that_belong_to_no_question_are_shown_while_an_answer_is_missing(tmp_path):
    def far(cells):
        cells.append(new(WORDS))
        cells[0]["source"] = ["Typed over the title."]

    result = found(tmp_path, far)
    assert not any(result.words.values())
    assert result.other == f"Typed over the title.\n\n{WORDS}"
    grades, _, page = report(result, tmp_path)
    assert "words outside the answers' cells: " in grades
    assert WORDS in grades
    assert "These words are in no answer's cell." in page
    assert WORDS in page
    sheet = (tmp_path / "answers.csv").read_text()  # points for all that seems to be missing
    sheet = re.sub(r"^(1\.\w,ann,),,", r"\1,0,", sheet, flags=re.MULTILINE)
    (tmp_path / "answers.csv").write_text(sheet)
    grades, _, _ = report(result, tmp_path)
    assert "words outside" not in grades

    def all_answered(cells):
        far(cells)
        for cell in cells:
            cell["source"] = "".join(cell["source"]).replace("YOUR ANSWER HERE", "Because.")

    assert found(tmp_path, all_answered).other == ""  # notes of the student's own


def test_an_unknown_comment_loses_nothing(tmp_path):
    result = found(tmp_path, lambda cells: cells.append(new(f"<!-- answer 9.Z -->{WORDS}")))
    assert result.other == WORDS


@pytest.mark.parametrize("name", ["ExplanationMethods", "ModelBias"])
def test_a_new_notebook_has_no_answers_and_each_answers_cell_is_known(name):
    notebook = read(ROOT / f"{name}.ipynb")
    result = answers(notebook, notebook.part)
    assert not any(result.words.values())
    assert (result.unclear, result.other) == ({}, "")
    assert all(cell.untouched for cell in notebook.cells)
    known = [cell._replace(grade_id="").question for cell in notebook.cells]
    assert [one for one in known if one] == [one for one in QUESTIONS if one[0] == notebook.part]
