"""The sheet with a person's points, after all that spreadsheets and people do to it."""

import csv
import io

import numpy as np
import pytest

from practical.grading.sheet import read_sheet, write_csv
from tests.oracles import refuses

HEADING = ["question", "student", "answer", "points", "comment", "points are for"]
ROWS = [
    ["1.A", "ann", "Större,\n∂f/∂x; 'quoted'", "1.5", "bra; mycket", ""],
    ["1.A", "=1+1", "=SUM(A1)", "2", "=good", ""],
    ["1.A", "'=1+1", "", "1", "", ""],
    ["1.B", "ann", "- a list", "", "", ""],
]
STUDENTS = {"ann", "=1+1", "'=1+1", "''=1+1", "bj\xf6rn"}


def write(path, rows=ROWS, *, heading=HEADING):
    write_csv(path, [dict(zip(heading, row, strict=True)) for row in rows])
    return path


def saved(path, *, encoding="utf-8", separator=",", first="", comma=False):
    """Save a sheet as a spreadsheet does."""
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    if comma:
        rows = [[cell.replace("1.5", "1,5") for cell in row] for row in rows]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows(rows)
    path.write_bytes((first + text.getvalue()).encode(encoding, "replace"))
    return path


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"encoding": "utf-8-sig", "separator": ";", "comma": True},
        {"encoding": "cp1252", "separator": ";", "comma": True},
        {"encoding": "utf-16", "separator": "\t"},
        {"separator": ";", "first": "sep=;\r\n", "comma": True},
        {"first": "sep=,\n", "comma": True},
    ],
)
def test_what_spreadsheets_save_is_read(tmp_path, how):
    found = read_sheet(saved(write(tmp_path / "answers.csv"), **how), STUDENTS)
    assert found["ann", "1.A"][:2] == ("1.5", "bra; mycket")
    assert found["=1+1", "1.A"][:2] == ("2", "=good")
    assert found["'=1+1", "1.A"].points == "1"  # two students whose rows once were one
    for question, student, answer, *_ in ROWS:
        assert not found[student, question].other_than(answer)
    assert found["ann", "1.A"].other_than("Another.")


def test_no_text_is_a_formula_and_each_is_read_as_it_was(tmp_path):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("'=+-@\t\n;a 1"), 6)) for _ in range(500)]
    rows = [["1.A", text, "", "1", "", ""] for text in dict.fromkeys(texts)]
    path = write(tmp_path / "answers.csv", rows)
    cells = [row[1] for row in csv.reader(io.StringIO(path.read_text(), newline=""))]
    assert not [cell for cell in cells if cell[0] in "=+@" or (cell[0] == "-" and cell[1].strip())]
    found = read_sheet(path, set(texts))
    assert {student for student, _ in found} == set(texts)


def test_two_sheets_pasted_together_lose_nothing(tmp_path):
    path = tmp_path / "answers.csv"
    first = write(path, [["1.A", "ann", "w", "2", "", ""], ["1.B", "ann", "w", "", "", ""]])
    first = first.read_text()
    second = write(path, [["1.A", "ann", "w", "", "good", ""], ["1.B", "ann", "w", "1", "", ""]])
    second = second.read_text()
    for both in (first + second, second + "\n" + first, first + second + first):
        path.write_text(both)
        found = read_sheet(path, {"ann"})
        assert found["ann", "1.A"][:2] == ("2", "good")
        assert found["ann", "1.B"].points == "1"
    for changed in (second.replace("w,,", "w,1,"), second.replace("good", "bad") + second):
        path.write_text(first + changed)
        with refuses(r"more than one row for some answers.*: rows 2 and \d.* \(1.A, ann\)"):
            read_sheet(path, {"ann"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.A,ann,w,1,5,,", "row 2 of .* must have the columns .*got 7 cells, not 6"),
        ("1.A;ann;w;1;;", "row 2 of .* must have the columns .*got 1 cells"),
        ("1.A,ann,w", "row 2 of .* must have the columns .*got 3 cells"),
        ("student,question,answer,points,comment,x", "row 2 of .* must have the columns"),
        ("1.A,bob,w,1,,", "row 2 of .* is about the student 'bob'"),
        ("1.A,bob,w,,see me,", "row 2 of .* is about the student 'bob'"),
        ("9.Z,ann,w,0,,", "question must be one of .* got '9.Z' in row 2"),
        ("9.Z,ann,w,,see me,", "question must be one of .* got '9.Z' in row 2"),
        ("1.A,ann,w,01-maj,,", "points must be a number from 0 to 2 .* got '01-maj' in row 2"),
        ("1.A,ann,w,nan,,", "points must be a number"),
        ("1.A,ann,w,-1,,", "points must be a number"),
        ('1.A,ann,w,"1,5,0",,', "points must be a number"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, row, message):
    path = tmp_path / "answers.csv"
    path.write_text(",".join(HEADING) + "\n" + row + "\n")
    before = path.read_bytes()
    with refuses(message):
        read_sheet(path, {"ann"})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04\x14\0\x06\0\x08\0",
        b"question,student,answer,points,comment\n1.A,ann,\x81,1,\n",
        "question,student,answer,points,comment".encode("utf-16-le"),
        b"\xff\xfeq",
        b"question,student,answer,points,points,comment\n",
        b"question,student,answer,comment\n",
    ],
)
def test_a_sheet_that_cannot_be_read_stops_with_a_way_out(tmp_path, content):
    path = tmp_path / "answers.csv"
    path.write_bytes(content)
    with refuses("answers.csv .*[Ss]ave it as CSV UTF-8"):
        read_sheet(path, {"ann"})
    assert path.read_bytes() == content
